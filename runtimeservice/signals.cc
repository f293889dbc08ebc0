#include "runtimeservice/signals.h"

#include <signal.h>

#include <array>
#include <string>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

// What the kernel's RTMIN is to signal senders: glibc keeps the first two to itself.
constexpr int kRealTimeMin = 34;
constexpr int kRealTimeMax = 64;

struct Named {
  const char* name;
  int number;
};

// In the order of the CRI's values 1 to 34.
constexpr std::array<Named, 34> kSignals = {
    {{"ABRT", SIGABRT}, {"ALRM", SIGALRM}, {"BUS", SIGBUS},       {"CHLD", SIGCHLD},
     {"CLD", SIGCHLD},  {"CONT", SIGCONT}, {"FPE", SIGFPE},       {"HUP", SIGHUP},
     {"ILL", SIGILL},   {"INT", SIGINT},   {"IO", SIGIO},         {"IOT", SIGIOT},
     {"KILL", SIGKILL}, {"PIPE", SIGPIPE}, {"POLL", SIGPOLL},     {"PROF", SIGPROF},
     {"PWR", SIGPWR},   {"QUIT", SIGQUIT}, {"SEGV", SIGSEGV},     {"STKFLT", SIGSTKFLT},
     {"STOP", SIGSTOP}, {"SYS", SIGSYS},   {"TERM", SIGTERM},     {"TRAP", SIGTRAP},
     {"TSTP", SIGTSTP}, {"TTIN", SIGTTIN}, {"TTOU", SIGTTOU},     {"URG", SIGURG},
     {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"VTALRM", SIGVTALRM}, {"WINCH", SIGWINCH},
     {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ}}};

constexpr int kFirstRealTime = 35;  // The CRI's RTMIN; RTMIN+15 is 50, RTMAX-14 is 51.

}  // namespace

absl::StatusOr<int> SignalNumber(cri::Signal signal) {
  const int value = static_cast<int>(signal);
  if (value == 0) {
    return 0;
  }
  if (value >= 1 && value < kFirstRealTime) {
    return kSignals[static_cast<size_t>(value - 1)].number;
  }
  if (value >= kFirstRealTime && value <= kFirstRealTime + kRealTimeMax - kRealTimeMin) {
    return kRealTimeMin + value - kFirstRealTime;
  }
  return absl::InvalidArgumentError(base::StrCat("stop_signal: there is no signal ", value));
}

cri::Signal CriSignal(int number) {
  if (number >= kRealTimeMin && number <= kRealTimeMax) {
    return static_cast<cri::Signal>(kFirstRealTime + number - kRealTimeMin);
  }
  for (size_t i = 0; i < kSignals.size(); ++i) {
    if (kSignals[i].number == number) {
      return static_cast<cri::Signal>(i + 1);
    }
  }
  return cri::SIGNAL_RUNTIME_DEFAULT;
}

absl::StatusOr<int> ParseSignal(std::string_view text) {
  std::string name = absl::AsciiStrToUpper(base::ToAbsl(text));
  int number = 0;
  if (absl::SimpleAtoi(name, &number)) {
    if (number >= 1 && number <= kRealTimeMax) {
      return number;
    }
    return absl::InvalidArgumentError(base::StrCat("there is no signal ", text));
  }
  name = std::string(absl::StripPrefix(name, "SIG"));
  for (const Named& signal : kSignals) {
    if (name == signal.name) {
      return signal.number;
    }
  }
  for (const auto& [prefix, first, sign] :
       {std::make_tuple("RTMIN", kRealTimeMin, '+'), std::make_tuple("RTMAX", kRealTimeMax, '-')}) {
    absl::string_view rest = name;
    if (!absl::ConsumePrefix(&rest, prefix)) {
      continue;
    }
    int offset = 0;
    if (rest.empty()) {
      return first;
    }
    if (rest[0] == sign && absl::SimpleAtoi(rest.substr(1), &offset) && offset >= 0 &&
        offset <= kRealTimeMax - kRealTimeMin) {
      return sign == '+' ? first + offset : first - offset;
    }
  }
  return absl::InvalidArgumentError(base::StrCat("there is no signal \"", text, "\""));
}

absl::StatusOr<int> StopSignal(cri::Signal requested, std::string_view image_signal) {
  ASSIGN_OR_RETURN(const int number, SignalNumber(requested));
  if (number != 0) {
    return number;
  }
  return image_signal.empty() ? SIGTERM : ParseSignal(image_signal).value_or(SIGTERM);
}

}  // namespace runtimeservice
