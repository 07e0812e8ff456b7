/* The commands: each takes its own argument vector (argv[0] is the command's name) and returns the process's exit status: 0 success, 1
 * failure, 2 wrong usage. */
#ifndef IMAGINED_CLI_COMMANDS_H
#define IMAGINED_CLI_COMMANDS_H

int command_serve(int argc, char **argv);
int command_generate(int argc, char **argv);
int command_models(int argc, char **argv);
int command_keys(int argc, char **argv);
int command_quantize(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_engine(int argc, char **argv); /* started by serve, not by people */

#endif
