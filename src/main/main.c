/*
 * main.c - the program: subcommands.
 */
#include "main/main.h"
#include "main/options.h"
#include "simd/simd.h"
#include <stdio.h>
#include <string.h>

static int usage(FILE *out)
{
    fprintf(out, "usage: elanus COMMAND\n\n"
                 "  run standalone [options]     start a server with every role in one process\n"
                 "  meta list|get|watch [...]    show the metadata of a running or stopped server\n"
                 "  log list|dump [...]          show the write-ahead log of a stopped server\n"
                 "  version                      version and processor support\n"
                 "  help [configuration]         this text, or every option as a table\n\n"
                 "`elanus run standalone --help` lists the options.\n");
    return out == stdout ? 0 : 2;
}

static int cmd_help(int argc, char **argv)
{
    if (argc > 0 && strcmp(argv[0], "configuration") == 0) {
        struct config *cfg = options_new();
        options_markdown(cfg, stdout);
        config_free(cfg);
        return 0;
    }
    return usage(stdout);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*fn)(int argc, char **argv);
    } commands[] = {
        { "run", cmd_run },   { "meta", cmd_meta },   { "log", cmd_log },
        { "help", cmd_help }, { "--help", cmd_help }, { "-h", cmd_help },
    };

    if (argc < 2) {
        return usage(stderr);
    }
    if (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0) {
        printf("elanus %s simd=%s\n", ELANUS_VERSION, simd_level_name(simd_ops()->level));
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].fn(argc - 2, argv + 2);
        }
    }
    fprintf(stderr, "elanus: \"%s\" is no command\n\n", argv[1]);
    return usage(stderr);
}
