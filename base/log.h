// The daemon's log: one line per event on standard error, with level, message and the ids at hand.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/strings.h"

namespace base {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warn" ("warning") or "error" ("fatal" and "panic" count as error, "trace" as
// debug); else INVALID_ARGUMENT.
absl::StatusOr<LogLevel> ParseLogLevel(std::string_view text);

// Lines below `level` are dropped from now on. Before the first call: info. Thread-safe.
void SetLogLevel(LogLevel level);
bool LogEnabled(LogLevel level);

// Writes one line; control characters are escaped. Thread-safe.
void Log(LogLevel level, std::string_view message);

template <typename... Pieces>
void LogDebug(const Pieces&... pieces) {
  if (LogEnabled(LogLevel::kDebug)) Log(LogLevel::kDebug, StrCat(pieces...));
}
template <typename... Pieces>
void LogInfo(const Pieces&... pieces) {
  Log(LogLevel::kInfo, StrCat(pieces...));
}
template <typename... Pieces>
void LogWarning(const Pieces&... pieces) {
  Log(LogLevel::kWarning, StrCat(pieces...));
}
template <typename... Pieces>
void LogError(const Pieces&... pieces) {
  Log(LogLevel::kError, StrCat(pieces...));
}

// While it lives, every line this thread logs ends with ` name=value`. Handlers run on one thread,
// so this is how the ids of request, pod and container reach each line. Strictly nested per thread.
class LogField {
 public:
  LogField(std::string_view name, std::string_view value);
  ~LogField();
  LogField(const LogField&) = delete;
  LogField& operator=(const LogField&) = delete;

 private:
  size_t previous_size_;
};

// The fields of this thread's lines, for work that goes on on another thread.
std::string CurrentLogFields();

// While it lives, this thread's lines end with `fields`, another thread's CurrentLogFields, instead
// of what they ended with before.
class LogFields {
 public:
  explicit LogFields(std::string fields);
  ~LogFields();
  LogFields(const LogFields&) = delete;
  LogFields& operator=(const LogFields&) = delete;

 private:
  std::string previous_;
};

}  // namespace base
