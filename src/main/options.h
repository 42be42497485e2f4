/*
 * options.h - from command line, configuration file and defaults to one table of values.
 *
 * Later wins: defaults, --config file, --set, the named flags. Unknown keys of a file are warned
 * about once (a user's milvus.yaml has many that mean nothing here); an unknown --set key is an
 * error.
 */
#pragma once
#include "base/config.h"
#include "base/slice.h"
#include "base/status.h"
#include <stdio.h>

/* Every option of the program at its default. Free with config_free(). */
struct config *options_new(void);

struct options_flags {
    bool help;
    bool remote_services;   /* --services remote: calls between roles go over loopback sockets */
};
/* argv behind the subcommand. Fails: ST_INVALID says which argument and what would be right. */
int options_parse(struct config *cfg, int argc, char **argv, struct options_flags *ret,
                  struct status *st);
/* A YAML file of nested maps; keys are joined by dots, a key without a value keeps its default. */
int options_read_yaml(struct config *cfg, const char *path, struct status *st);
/* The same from memory; `name` is what errors call it. */
int options_parse_yaml(struct config *cfg, struct slice text, const char *name, struct status *st);
void options_help(const struct config *cfg, FILE *out);
/* docs/configuration.md. */
void options_markdown(const struct config *cfg, FILE *out);
