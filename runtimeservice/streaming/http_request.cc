#include "runtimeservice/streaming/http_request.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"
#include "runtimeservice/streaming/async.h"
// Beast after Asio's workaround in async.h.
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/status.hpp>

namespace streaming {

namespace http = boost::beast::http;

struct HttpRequestReader::Parser {
  http::request_parser<http::empty_body> beast;
};

std::vector<std::string> HttpRequest::List(std::string_view name) const {
  std::vector<std::string> elements;
  for (const auto& [key, value] : headers) {
    if (key != name) {
      continue;
    }
    for (const absl::string_view piece : absl::StrSplit(base::ToAbsl(value), ',')) {
      const absl::string_view element = absl::StripAsciiWhitespace(piece);
      if (!element.empty()) {
        elements.emplace_back(element);
      }
    }
  }
  return elements;
}

bool HttpRequest::Has(std::string_view name, std::string_view token) const {
  const std::vector<std::string> elements = List(name);
  return std::any_of(elements.begin(), elements.end(), [token](const std::string& element) {
    return absl::EqualsIgnoreCase(element, base::ToAbsl(token));
  });
}

std::string RenderAnswer(const HttpAnswer& answer) {
  const std::string_view reason = http::obsolete_reason(static_cast<http::status>(answer.status));
  std::string bytes = base::StrCat("HTTP/1.1 ", answer.status, " ", reason, "\r\n");
  for (const auto& [name, value] : answer.headers) {
    bytes += base::StrCat(name, ": ", value, "\r\n");
  }
  bytes += base::StrCat("Content-Type: text/plain; charset=utf-8\r\nContent-Length: ",
                        answer.text.size() + 1, "\r\nConnection: close\r\n\r\n", answer.text, "\n");
  return bytes;
}

HttpRequestReader::HttpRequestReader(size_t max_bytes) : parser_(std::make_unique<Parser>()) {
  parser_->beast.header_limit(static_cast<uint32_t>(max_bytes));
}

HttpRequestReader::~HttpRequestReader() = default;

HttpRequestReader::Progress HttpRequestReader::Take(std::string_view bytes) {
  pending_ += bytes;
  if (pending_.empty()) {
    return Progress::kMore;  // Beast would count from a null pointer.
  }
  Error error;
  const size_t used = parser_->beast.put(boost::asio::buffer(pending_), error);
  pending_.erase(0, used);
  if (error == http::error::need_more) {
    return Progress::kMore;
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return Refuse(431, "the request's header is longer than stream_max_header_size");
  }
  if (error == http::error::bad_version) {
    return Refuse(505, "HTTP/1.1 is spoken here");
  }
  if (error) {
    return Refuse(400, base::StrCat("not an HTTP request: ", error.message()));
  }
  return parser_->beast.is_header_done() ? Complete() : Progress::kMore;
}

HttpRequestReader::Progress HttpRequestReader::Refuse(int status, std::string_view text) {
  refusal_ = {.status = status, .text = std::string(text)};
  return Progress::kRefused;
}

HttpRequestReader::Progress HttpRequestReader::Complete() {
  const auto& message = parser_->beast.get();
  request_.method = std::string(message.method_string());
  request_.target = std::string(message.target());
  request_.is_http_1_1 = message.version() == 11;
  for (const auto& field : message) {
    request_.headers.emplace_back(
        absl::AsciiStrToLower(base::ToAbsl(std::string_view(field.name_string()))),
        std::string(field.value()));
  }
  // Its bytes would be taken for those of the protocol that follows.
  const auto length = parser_->beast.content_length();
  if (parser_->beast.chunked() || (length.has_value() && *length > 0)) {
    return Refuse(400, "a request that upgrades its connection has no body");
  }
  return Progress::kDone;
}

}  // namespace streaming
