#include "conmon/options.h"

#include <string.h>

#include "conmon/system.h"

namespace conmon {

const char kUsage[] =
    "usage: crisp-monitor --id ID --bundle DIR --state-dir DIR [options] -- RUNTIME [ARGUMENT…]\n"
    "\n"
    "Holds the output, log and exit of one container. Started by crisp.\n"
    "\n"
    "  --id ID             the container\n"
    "  --bundle DIR        its bundle, for RUNTIME create\n"
    "  --state-dir DIR     gets monitor.lock, monitor.sock, pid, create.log and exit\n"
    "  --log FILE          log in the format of the CRI; without it output is discarded\n"
    "  --terminal          the container's process has a terminal\n"
    "  --stdin             it has a standard input, fed by attached clients\n"
    "  --stdin-once        which is closed when the first of them ends\n"
    "  --own-stdin         without --stdin a pipe at its end instead of /dev/null\n"
    "  --sandboxed         the process runs in a sandbox of the runtime's: start and wait by "
    "RUNTIME\n"
    "  --cgroup DIR        cgroup directory that the monitor joins; repeatable\n"
    "  --handshake-fd N    socket to the daemon (default 3)\n"
    "  --help              this text\n";

namespace {

// The option that takes `name`'s value, or null.
const char** ValueOf(const char* name, Options* options) {
  struct Named {
    const char* name;
    const char** value;
  };
  const Named all[] = {{"--id", &options->id},
                       {"--bundle", &options->bundle},
                       {"--state-dir", &options->state_dir},
                       {"--log", &options->log}};
  for (const Named& option : all) {
    if (strcmp(name, option.name) == 0) {
      return option.value;
    }
  }
  if (strcmp(name, "--cgroup") == 0 && options->cgroup_count < 32) {
    return &options->cgroups[options->cgroup_count++];
  }
  return nullptr;
}

bool* FlagOf(const char* name, Options* options) {
  if (strcmp(name, "--terminal") == 0) {
    return &options->terminal;
  }
  if (strcmp(name, "--stdin") == 0) {
    return &options->has_stdin;
  }
  if (strcmp(name, "--own-stdin") == 0) {
    return &options->own_stdin;
  }
  if (strcmp(name, "--sandboxed") == 0) {
    return &options->sandboxed;
  }
  return strcmp(name, "--stdin-once") == 0 ? &options->stdin_once : nullptr;
}

const char* Incomplete(const Options& options) {
  if (options.id == nullptr || *options.id == '\0') {
    return "missing --id";
  }
  if (options.bundle == nullptr || options.bundle[0] != '/') {
    return "--bundle must be an absolute path";
  }
  if (options.state_dir == nullptr || options.state_dir[0] != '/') {
    return "--state-dir must be an absolute path";
  }
  if (options.log[0] != '\0' && options.log[0] != '/') {
    return "--log must be an absolute path";
  }
  if (options.runtime_count == 0 || options.runtime_count > kMaxRuntimeArguments) {
    return "missing the runtime's command, or too long a one, after --";
  }
  return nullptr;
}

}  // namespace

ParseResult ParseOptions(int argc, char** argv, Options* options, const char** error,
                         const char** argument) {
  *argument = "";
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--help") == 0) {
      return ParseResult::kHelp;
    }
    if (strcmp(argv[i], "--") == 0) {
      options->runtime = argv + i + 1;
      options->runtime_count = static_cast<size_t>(argc - i - 1);
      break;
    }
    if (bool* flag = FlagOf(argv[i], options); flag != nullptr) {
      *flag = true;
      continue;
    }
    *argument = argv[i];
    const bool is_handshake = strcmp(argv[i], "--handshake-fd") == 0;
    const char** value = is_handshake ? nullptr : ValueOf(argv[i], options);
    if ((value == nullptr && !is_handshake) || i + 1 == argc) {
      *error = i + 1 == argc ? "missing value of " : "unknown option, or too many of ";
      return ParseResult::kError;
    }
    ++i;
    if (value != nullptr) {
      *value = argv[i];
    } else if ((options->handshake_fd = static_cast<int>(ParseNumber(argv[i], 1 << 20))) < 0) {
      *error = "not a descriptor number: ";
      *argument = argv[i];
      return ParseResult::kError;
    }
    *argument = "";
  }
  *error = Incomplete(*options);
  return *error == nullptr ? ParseResult::kRun : ParseResult::kError;
}

}  // namespace conmon
