#include "base/yaml.h"

#include <yaml.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/strings.h"

namespace base {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxValues = 500'000;

std::string_view View(const yaml_char_t* text, size_t size) {
  return {reinterpret_cast<const char*>(text), size};
}

absl::Status ErrorAt(const yaml_mark_t& mark, std::string_view why) {
  return absl::InvalidArgumentError(StrCat("line ", mark.line + 1, ": ", why));
}

template <typename Number, typename... Format>
std::optional<Number> ReadNumber(std::string_view text, Format... format) {
  Number number{};
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, format...);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number)
                                                                  : std::nullopt;
}

// Takes a sign off; -1 or 1.
int TakeSign(std::string_view* text) {
  const bool minus = !text->empty() && text->front() == '-';
  if (minus || (!text->empty() && text->front() == '+')) {
    text->remove_prefix(1);
  }
  return minus ? -1 : 1;
}

std::optional<Json> ReadInteger(std::string_view text) {
  const int sign = TakeSign(&text);
  int radix = 10;
  if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'o')) {
    radix = text[1] == 'x' ? 16 : 8;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text[0] == '0') {
    radix = 8;
  }
  if (text.empty() || text.front() == '-') {
    return std::nullopt;
  }
  const std::optional<uint64_t> number = ReadNumber<uint64_t>(text, radix);
  if (!number.has_value()) {
    return std::nullopt;
  }
  if (sign > 0) {
    return Json(*number);
  }
  return *number <= uint64_t{INT64_MAX} ? std::optional<Json>(-static_cast<int64_t>(*number))
                                        : std::nullopt;
}

std::optional<Json> ReadFloat(std::string_view text) {
  const int sign = TakeSign(&text);
  // from_chars takes "inf" and "nan", which are words here.
  if (text.empty() || text.find_first_not_of("0123456789.eE+-") != std::string_view::npos ||
      text.find_first_of("0123456789") == std::string_view::npos || text.front() == '-') {
    return std::nullopt;
  }
  const std::optional<double> number = ReadNumber<double>(text, std::chars_format::general);
  return number.has_value() && std::isfinite(*number) ? std::optional<Json>(sign * *number)
                                                      : std::nullopt;
}

Json PlainScalar(std::string_view text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") {
    return nullptr;
  }
  if (text == "true" || text == "True" || text == "TRUE") {
    return true;
  }
  if (text == "false" || text == "False" || text == "FALSE") {
    return false;
  }
  if (std::optional<Json> integer = ReadInteger(text); integer.has_value()) {
    return *std::move(integer);
  }
  if (std::optional<Json> number = ReadFloat(text); number.has_value()) {
    return *std::move(number);
  }
  return std::string(text);
}

// An event of libyaml's parser, given back with this object.
class Event {
 public:
  Event() = default;
  ~Event() { yaml_event_delete(&event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  yaml_event_t* get() { return &event_; }
  const yaml_event_t* operator->() const { return &event_; }

 private:
  yaml_event_t event_ = {};
};

class Parser {
 public:
  explicit Parser(std::string_view text) {
    ready_ = yaml_parser_initialize(&parser_) == 1;
    if (ready_) {
      yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
      yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                   text.size());
    }
  }
  ~Parser() {
    if (ready_) {
      yaml_parser_delete(&parser_);
    }
  }
  Parser(const Parser&) = delete;
  Parser& operator=(const Parser&) = delete;

  absl::StatusOr<Json> Parse() {
    for (;;) {
      Event event;
      RETURN_IF_ERROR(Next(&event));
      if (event->type == YAML_STREAM_END_EVENT) {
        return std::move(root_);
      }
      const absl::Status status = Take(event);
      RETURN_IF_ERROR(status);
    }
  }

 private:
  // A mapping or a list that is not closed yet.
  struct Open {
    Json value;
    std::string key;  // Of a mapping: the member whose value comes next.
    bool has_key = false;
  };

  absl::Status Next(Event* event) {
    if (!ready_) {
      return absl::ResourceExhaustedError("no memory for YAML");
    }
    if (yaml_parser_parse(&parser_, event->get()) != 1) {
      const yaml_mark_t mark = parser_.problem_mark;
      return ErrorAt(mark, parser_.problem == nullptr ? "not YAML" : parser_.problem);
    }
    return absl::OkStatus();
  }

  absl::Status Take(const Event& event) {
    switch (event->type) {
      case YAML_DOCUMENT_START_EVENT:
        return ++documents_ == 1 ? absl::OkStatus()
                                 : ErrorAt(event->start_mark, "a second document");
      case YAML_ALIAS_EVENT:
        return ErrorAt(event->start_mark, "an alias");
      case YAML_SCALAR_EVENT:
        return Scalar(event);
      case YAML_SEQUENCE_START_EVENT:
        RETURN_IF_ERROR(
            CheckPlain(event, event->data.sequence_start.anchor, event->data.sequence_start.tag));
        return Begin(event, Json::array());
      case YAML_MAPPING_START_EVENT:
        RETURN_IF_ERROR(
            CheckPlain(event, event->data.mapping_start.anchor, event->data.mapping_start.tag));
        return Begin(event, Json::object());
      case YAML_SEQUENCE_END_EVENT:
      case YAML_MAPPING_END_EVENT: {
        Json value = std::move(open_.back().value);
        open_.pop_back();
        return Put(event, std::move(value));
      }
      default:
        return absl::OkStatus();
    }
  }

  static absl::Status CheckPlain(const Event& event, const yaml_char_t* anchor,
                                 const yaml_char_t* tag) {
    if (anchor != nullptr) {
      return ErrorAt(event->start_mark, "an anchor");
    }
    return tag == nullptr ? absl::OkStatus() : ErrorAt(event->start_mark, "a tag");
  }

  absl::Status Begin(const Event& event, Json value) {
    if (open_.size() >= kMaxDepth) {
      return ErrorAt(event->start_mark, "nested too deeply");
    }
    if (!open_.empty() && open_.back().value.is_object() && !open_.back().has_key) {
      return ErrorAt(event->start_mark, "the name of a member is not a scalar");
    }
    open_.push_back({std::move(value), {}, false});
    return absl::OkStatus();
  }

  absl::Status Scalar(const Event& event) {
    const auto& scalar = event->data.scalar;
    const std::string_view text = View(scalar.value, scalar.length);
    const bool named_string =
        scalar.tag != nullptr &&
        std::string_view(reinterpret_cast<const char*>(scalar.tag)) == YAML_STR_TAG;
    RETURN_IF_ERROR(CheckPlain(event, scalar.anchor, named_string ? nullptr : scalar.tag));
    if (!open_.empty() && open_.back().value.is_object() && !open_.back().has_key) {
      open_.back().key = text;
      open_.back().has_key = true;
      return open_.back().value.contains(open_.back().key)
                 ? ErrorAt(event->start_mark, StrCat("\"", text, "\" is there twice"))
                 : absl::OkStatus();
    }
    const bool plain = scalar.style == YAML_PLAIN_SCALAR_STYLE && !named_string;
    return Put(event, plain ? PlainScalar(text) : Json(std::string(text)));
  }

  // Puts a whole value where it belongs.
  absl::Status Put(const Event& event, Json value) {
    if (++values_ > kMaxValues) {
      return ErrorAt(event->start_mark, StrCat("more than ", kMaxValues, " values"));
    }
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().value.is_object()) {
      open_.back().value[open_.back().key] = std::move(value);
      open_.back().has_key = false;
    } else {
      open_.back().value.push_back(std::move(value));
    }
    return absl::OkStatus();
  }

  yaml_parser_t parser_ = {};
  bool ready_ = false;
  std::vector<Open> open_;
  Json root_;
  size_t values_ = 0;
  int documents_ = 0;
};

}  // namespace

absl::StatusOr<Json> ParseYaml(std::string_view text) { return Parser(text).Parse(); }

}  // namespace base
