// The verb `run`: from what the daemon is to what a fresh program expects.

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "conmon/init/verbs.h"
#include "conmon/system.h"

namespace conmon {
namespace {

constexpr char kOomScoreFile[] = "/proc/self/oom_score_adj";
constexpr int kNoProgram = 127;
constexpr int kNotRunnable = 126;

int WriteOomScore(int score) {
  Text<16> text;
  text.AddNumber(score);
  return WriteSmallFile(AT_FDCWD, kOomScoreFile, text.data(), text.size());
}

// Without CAP_SYS_RESOURCE the score cannot go below a floor that nobody tells: it is searched for.
void ClampOomScore(int wanted) {
  char text[16];
  if (ReadSmallFile(AT_FDCWD, kOomScoreFile, text, sizeof(text)) <= 0) {
    return;
  }
  int refused = wanted;
  int allowed = atoi(text);
  while (allowed - refused > 1) {
    const int middle = refused + (allowed - refused) / 2;
    (WriteOomScore(middle) == 0 ? allowed : refused) = middle;
  }
}

bool SetOomScore(const char* text) {
  const bool negative = *text == '-';
  const int64_t number = ParseNumber(text + (negative ? 1 : 0), 1000);
  if (number < 0) {
    return false;
  }
  const int score = static_cast<int>(negative ? -number : number);
  const int error = WriteOomScore(score);
  if (error == EACCES || error == EPERM) {
    ClampOomScore(score);
  }
  return true;
}

struct LimitName {
  const char* name;
  int resource;
};
constexpr LimitName kLimits[] = {
    {"as", RLIMIT_AS},           {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
    {"data", RLIMIT_DATA},       {"fsize", RLIMIT_FSIZE},       {"locks", RLIMIT_LOCKS},
    {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
    {"nofile", RLIMIT_NOFILE},   {"nproc", RLIMIT_NPROC},       {"rss", RLIMIT_RSS},
    {"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING},
    {"stack", RLIMIT_STACK}};

bool ParseLimit(char* text, rlim_t* limit) {
  if (strcmp(text, "unlimited") == 0) {
    *limit = RLIM_INFINITY;
    return true;
  }
  // Beyond int64 a limit is as good as none; the kernel's RLIM_INFINITY in decimal is one of these.
  if (*text == '\0' || text[strspn(text, "0123456789")] != '\0') {
    return false;
  }
  const int64_t number = ParseNumber(text, INT64_MAX);
  *limit = number < 0 ? RLIM_INFINITY : static_cast<rlim_t>(number);
  return true;
}

// "nofile=1024:524288". Best effort: what may not be raised stays as near as it can be.
bool SetLimit(char* text) {
  char* soft = strchr(text, '=');
  char* hard = soft == nullptr ? nullptr : strchr(soft, ':');
  if (hard == nullptr) {
    return false;
  }
  *soft++ = '\0';
  *hard++ = '\0';
  rlimit limit = {};
  if (!ParseLimit(soft, &limit.rlim_cur) || !ParseLimit(hard, &limit.rlim_max)) {
    return false;
  }
  for (const LimitName& known : kLimits) {
    if (strcmp(text, known.name) != 0) {
      continue;
    }
    rlimit now = {};
    if (setrlimit(known.resource, &limit) != 0 && getrlimit(known.resource, &now) == 0) {
      limit.rlim_max = limit.rlim_max < now.rlim_max ? limit.rlim_max : now.rlim_max;
      limit.rlim_cur = limit.rlim_cur < limit.rlim_max ? limit.rlim_cur : limit.rlim_max;
      setrlimit(known.resource, &limit);
    }
    return true;
  }
  return false;
}

// Applies one option with its value; false when it makes no sense.
bool Apply(const char* option, char* value) {
  if (strcmp(option, "--oom-score-adj") == 0) {
    return SetOomScore(value);
  }
  if (strcmp(option, "--rlimit") == 0) {
    return SetLimit(value);
  }
  if (strcmp(option, "--cgroup") == 0) {
    const int error = JoinCgroup(value);
    if (error != 0 && error != ENOENT) {
      Complain(kInit, value, ": ", strerror(error));
    }
    return true;
  }
  return false;
}

}  // namespace

int Run(int argc, char** argv) {
  int i = 0;
  for (; i < argc && strcmp(argv[i], "--") != 0; ++i) {
    if (strcmp(argv[i], "--new-session") == 0) {
      setsid();
      continue;
    }
    if (strcmp(argv[i], "--orphan") == 0) {
      const pid_t child = fork();
      if (child != 0) {
        return child > 0 ? 0 : kNotRunnable;
      }
      continue;
    }
    if (i + 1 == argc || !Apply(argv[i], argv[i + 1])) {
      Complain(kInit, "run: bad option ", argv[i]);
      return kUsageError;
    }
    ++i;
  }
  if (i + 1 >= argc) {
    Complain(kInit, "run: no program after --");
    return kUsageError;
  }
  ResetSignals();
  char** program = argv + i + 1;
  execv(program[0], program);
  const int error = errno;
  Complain(kInit, program[0], ": ", strerror(error));
  return error == ENOENT || error == ENOTDIR ? kNoProgram : kNotRunnable;
}

}  // namespace conmon
