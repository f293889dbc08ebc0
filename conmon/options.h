// The monitor's command line.
#pragma once

#include <stddef.h>

namespace conmon {

// Points into argv.
struct Options {
  const char* id = nullptr;
  const char* bundle = nullptr;
  const char* state_dir = nullptr;
  const char* log = "";  // Empty: output is discarded.
  bool terminal = false;
  bool has_stdin = false;
  bool stdin_once = false;
  bool own_stdin = false;
  bool sandboxed = false;
  int handshake_fd = 3;
  const char* cgroups[32] = {};
  size_t cgroup_count = 0;
  char** runtime = nullptr;  // The runtime and its global options.
  size_t runtime_count = 0;
};

inline constexpr size_t kMaxRuntimeArguments = 256;

extern const char kUsage[];

enum class ParseResult { kRun, kHelp, kError };

// Fills `options`. On kError `*error` is the reason and `*argument` what it is about.
ParseResult ParseOptions(int argc, char** argv, Options* options, const char** error,
                         const char** argument);

}  // namespace conmon
