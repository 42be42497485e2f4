/* main.h - what the subcommands are; each returns the program's exit status. */
#pragma once

int cmd_run(int argc, char **argv);   /* argv behind "run" */
int cmd_meta(int argc, char **argv);  /* cli/: list, get, watch */
int cmd_log(int argc, char **argv);   /* cli/: look into a log folder */
