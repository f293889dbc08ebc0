#include "imageservice/worker/registry/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, FreeUrl>;

// Part of a URL, empty when it has none.
std::string Part(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) {
    return "";
  }
  std::string copy(text);
  curl_free(text);
  return copy;
}

absl::StatusOr<Url> ParseUrl(const std::string& text) {
  Url url(curl_url());
  if (url == nullptr || curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) {
    return absl::InvalidArgumentError(base::StrCat("\"", PrintableUrl(text), "\" is no URL"));
  }
  return url;
}

}  // namespace

absl::StatusOr<std::string> UrlOrigin(const std::string& text) {
  ASSIGN_OR_RETURN(const Url url, ParseUrl(text));
  const std::string scheme = Part(url.get(), CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") {
    return absl::InvalidArgumentError(
        base::StrCat("\"", PrintableUrl(text), "\" is neither http nor https"));
  }
  return base::StrCat(scheme, "://", Part(url.get(), CURLUPART_HOST), ":",
                      Part(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT));
}

absl::StatusOr<std::string> ResolveUrl(const std::string& base_url, const std::string& location) {
  ASSIGN_OR_RETURN(const Url url, ParseUrl(base_url));
  // Setting a relative URL resolves it against the one that is there.
  if (curl_url_set(url.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK) {
    return absl::InvalidArgumentError(base::StrCat("\"", PrintableUrl(location), "\" is no URL"));
  }
  curl_url_set(url.get(), CURLUPART_USER, nullptr, 0);
  curl_url_set(url.get(), CURLUPART_PASSWORD, nullptr, 0);
  curl_url_set(url.get(), CURLUPART_FRAGMENT, nullptr, 0);
  return Part(url.get(), CURLUPART_URL);
}

std::string PrintableUrl(std::string_view url) {
  url = url.substr(0, url.find_first_of("?#"));
  std::string printable;
  const size_t authority = url.find("://");
  if (authority != std::string_view::npos) {
    const size_t begin = authority + 3;
    const size_t end = std::min(url.find('/', begin), url.size());
    const size_t at = url.substr(0, end).rfind('@');
    printable = url.substr(0, begin);
    url.remove_prefix(at != std::string_view::npos && at >= begin ? at + 1 : begin);
  }
  printable += url.substr(0, 300);
  for (char& c : printable) {
    c = c >= 0x20 && c < 0x7f ? c : '?';
  }
  return printable;
}

std::string QueryEscape(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string escaped;
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~';
    if (is_plain) {
      escaped += c;
    } else {
      escaped += '%';
      escaped += kHex[static_cast<unsigned char>(c) >> 4];
      escaped += kHex[static_cast<unsigned char>(c) & 15];
    }
  }
  return escaped;
}

}  // namespace imageservice::worker
