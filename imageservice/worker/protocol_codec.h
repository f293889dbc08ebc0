// What the parts of the protocols' codecs share. Not for others.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker::codec {

using base::Json;
using base::JsonBool;
using base::JsonInt;
using base::JsonString;

// The value of a digit of lower-case hexadecimal; -1 for any other character.
inline int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// Paths (and some documents) are bytes and JSON is UTF-8: '%' and bytes that are not printable
// ASCII go as %XX.
inline std::string EscapePath(std::string_view path) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string escaped;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f || c == '%') {
      escaped += '%';
      escaped += kHex[byte >> 4];
      escaped += kHex[byte & 15];
    } else {
      escaped += c;
    }
  }
  return escaped;
}

inline absl::StatusOr<std::string> UnescapePath(std::string_view escaped) {
  std::string path;
  for (size_t i = 0; i < escaped.size(); ++i) {
    if (escaped[i] != '%') {
      path += escaped[i];
      continue;
    }
    const int high = i + 2 < escaped.size() ? HexValue(escaped[i + 1]) : -1;
    const int low = i + 2 < escaped.size() ? HexValue(escaped[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return absl::InvalidArgumentError("a path with a broken escape");
    }
    path += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return path;
}

// A number that is not negative.
inline absl::StatusOr<uint64_t> JsonSize(const Json& json, std::string_view key) {
  ASSIGN_OR_RETURN(const int64_t value, JsonInt(json, key));
  if (value < 0) {
    return absl::InvalidArgumentError(base::StrCat("\"", key, "\" is negative"));
  }
  return static_cast<uint64_t>(value);
}

inline absl::StatusOr<int> JsonIndex(const Json& json, std::string_view key) {
  ASSIGN_OR_RETURN(const int64_t value, JsonInt(json, key, -1));
  if (value < 0 || value > 1'000'000) {
    return absl::InvalidArgumentError(base::StrCat("\"", key, "\" is no index"));
  }
  return static_cast<int>(value);
}

// 64 hexadecimal digits; with `Optional` also nothing.
enum class Presence { kRequired, kOptional };
inline absl::StatusOr<std::string> JsonHex(const Json& json, std::string_view key,
                                           Presence presence = Presence::kRequired) {
  ASSIGN_OR_RETURN(std::string value, JsonString(json, key));
  if (value.empty() && presence == Presence::kOptional) {
    return value;
  }
  if (value.size() != 64 || !std::ranges::all_of(value, [](char c) { return HexValue(c) >= 0; })) {
    return absl::InvalidArgumentError(
        base::StrCat("\"", key, "\" is not of 64 hexadecimal digits"));
  }
  return value;
}

// One alternative of a message type: what "type" names it, and its parser.
template <typename Message>
using Parser = absl::StatusOr<Message> (*)(const Json&);

template <typename Message, auto Parse>
absl::StatusOr<Message> As(const Json& json) {
  ASSIGN_OR_RETURN(auto value, Parse(json));
  return Message(std::move(value));
}

template <typename Message>
absl::StatusOr<Message> ParseMessage(std::string_view text,
                                     const std::map<std::string, Parser<Message>>& parsers) {
  ASSIGN_OR_RETURN(const Json json, base::ParseJson(text));
  ASSIGN_OR_RETURN(const std::string type, JsonString(json, "type"));
  const auto parser = parsers.find(type);
  if (parser == parsers.end()) {
    return absl::InvalidArgumentError(base::StrCat("unknown message type \"", type, "\""));
  }
  absl::StatusOr<Message> message = parser->second(json);
  if (!message.ok()) {
    return base::Annotate(message.status(), base::StrCat("message \"", type, "\""));
  }
  return message;
}

// --- messages of more than one conversation -----------------------------------------------------

inline Json ToJson(const Progress& progress) {
  return {{"type", "progress"}, {"done", progress.bytes_done}, {"total", progress.bytes_total}};
}

inline absl::StatusOr<Progress> ParseProgress(const Json& json) {
  Progress progress;
  ASSIGN_OR_RETURN(progress.bytes_done, JsonSize(json, "done"));
  ASSIGN_OR_RETURN(progress.bytes_total, JsonSize(json, "total"));
  return progress;
}

inline Json ToJson(const Warning& warning) {
  return {{"type", "warning"}, {"message", warning.message}};
}

inline absl::StatusOr<Warning> ParseWarning(const Json& json) {
  Warning warning;
  ASSIGN_OR_RETURN(warning.message, JsonString(json, "message"));
  return warning;
}

inline Json StatusToJson(std::string_view type, const absl::Status& status) {
  return {{"type", type},
          {"code", static_cast<int>(status.code())},
          {"message", base::ToStd(status.message())}};
}

inline Json ToJson(const Failed& failed) { return StatusToJson("error", failed.status); }

template <typename Message>
absl::StatusOr<Message> ParseStatus(const Json& json) {
  ASSIGN_OR_RETURN(const int64_t code, JsonInt(json, "code"));
  ASSIGN_OR_RETURN(const std::string message, JsonString(json, "message"));
  if (code <= 0 || code > static_cast<int>(absl::StatusCode::kUnauthenticated)) {
    return absl::InvalidArgumentError("\"code\" is no error code");
  }
  return Message{absl::Status(static_cast<absl::StatusCode>(code), message)};
}

}  // namespace imageservice::worker::codec
