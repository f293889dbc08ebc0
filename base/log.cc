#include "base/log.h"

#include <atomic>

#include "absl/strings/escaping.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace base {
namespace {

std::atomic<LogLevel> g_level = LogLevel::kInfo;
thread_local std::string t_fields;  // Each field as " name=value".

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

spdlog::logger& Logger() {
  static spdlog::logger* const logger = [] {
    auto* made = new spdlog::logger("crisp", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_level(spdlog::level::trace);
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *logger;
}

// Foreign text (a plugin's, a runtime's words) must not forge lines.
std::string OneLine(std::string_view message) {
  std::string line;
  for (const char c : message) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line += c;
    } else {
      line += absl::CHexEscape(absl::string_view(&c, 1));
    }
  }
  return line;
}

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(std::string_view text) {
  if (text == "debug" || text == "trace") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "warn" || text == "warning") return LogLevel::kWarning;
  if (text == "error" || text == "fatal" || text == "panic") return LogLevel::kError;
  return absl::InvalidArgumentError(
      StrCat("unknown log level \"", text, "\": use debug, info, warn or error"));
}

void SetLogLevel(LogLevel level) { g_level = level; }

bool LogEnabled(LogLevel level) { return level >= g_level.load(std::memory_order_relaxed); }

void Log(LogLevel level, std::string_view message) {
  if (LogEnabled(level)) {
    Logger().log(ToSpdlog(level), "{}{}", OneLine(message), t_fields);
  }
}

LogField::LogField(std::string_view name, std::string_view value)
    : previous_size_(t_fields.size()) {
  t_fields += StrCat(" ", name, "=", OneLine(value));
}

LogField::~LogField() { t_fields.resize(previous_size_); }

std::string CurrentLogFields() { return t_fields; }

LogFields::LogFields(std::string fields) : previous_(std::move(fields)) {
  t_fields.swap(previous_);
}

LogFields::~LogFields() { t_fields.swap(previous_); }

}  // namespace base
