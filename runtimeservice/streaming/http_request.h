// One HTTP/1.1 request's header, read by Boost.Beast, and the answer to it. No socket here.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace streaming {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;
  std::string target;
  bool is_http_1_1 = false;
  HttpHeaders headers;  // One per line, in their order; names in lower case.

  // The elements of all lines of `name` (in lower case): split at commas, without white space
  // around, none empty.
  std::vector<std::string> List(std::string_view name) const;
  // Whether one of them is `token`, in whatever case.
  bool Has(std::string_view name, std::string_view token) const;
};

struct HttpAnswer {
  int status = 0;
  std::string text;  // One line for people, without line end: the body.
  HttpHeaders headers;
};

// The bytes of an answer after which the connection is closed.
std::string RenderAnswer(const HttpAnswer& answer);

// Takes a request's bytes as they come.
class HttpRequestReader {
 public:
  // `max_bytes` of header, its start line included.
  explicit HttpRequestReader(size_t max_bytes);
  ~HttpRequestReader();

  enum class Progress { kMore, kDone, kRefused };
  // After kDone or kRefused no more.
  Progress Take(std::string_view bytes);

  // After kDone: the request, and what came behind its empty line.
  const HttpRequest& request() const { return request_; }
  std::string TakeRest() { return std::move(pending_); }
  // After kRefused: 400, 431 or 505.
  const HttpAnswer& refusal() const { return refusal_; }

 private:
  struct Parser;
  Progress Refuse(int status, std::string_view text);
  Progress Complete();

  std::unique_ptr<Parser> parser_;
  std::string pending_;
  HttpRequest request_;
  HttpAnswer refusal_;
};

}  // namespace streaming
