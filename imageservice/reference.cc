#include "imageservice/reference.h"

#include <arpa/inet.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "base/id.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice {
namespace {

constexpr size_t kMaxPath = 255;
constexpr size_t kMaxTag = 128;
// Far above what the parts allow together; keeps messages and work small for hostile input.
constexpr size_t kMaxReference = 1024;

bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlnum(char c) { return IsLower(c) || IsUpper(c) || IsDigit(c); }
bool IsLowerAlnum(char c) { return IsLower(c) || IsDigit(c); }
bool IsLowerHex(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f'); }

template <typename Predicate>
bool AllOf(std::string_view text, Predicate predicate) {
  return std::all_of(text.begin(), text.end(), predicate);
}

bool IsDomainLabel(std::string_view label) {
  return !label.empty() && IsAlnum(label.front()) && IsAlnum(label.back()) &&
         AllOf(label, [](char c) { return IsAlnum(c) || c == '-'; });
}

bool IsIpv6(std::string_view text) {
  in6_addr address = {};
  return text.size() < INET6_ADDRSTRLEN &&
         inet_pton(AF_INET6, std::string(text).c_str(), &address) == 1;
}

bool IsPort(std::string_view text) {
  int port = 0;
  return !text.empty() && AllOf(text, IsDigit) && absl::SimpleAtoi(base::ToAbsl(text), &port) &&
         port <= 65535;
}

// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*
bool IsPathComponent(std::string_view text) {
  if (text.empty() || !IsLowerAlnum(text.front()) || !IsLowerAlnum(text.back())) {
    return false;
  }
  size_t at = 0;
  while (at < text.size()) {
    if (IsLowerAlnum(text[at])) {
      ++at;
      continue;
    }
    size_t end = at;
    while (!IsLowerAlnum(text[end])) {  // The last character is one.
      ++end;
    }
    const std::string_view separator = text.substr(at, end - at);
    const bool dashes = AllOf(separator, [](char c) { return c == '-'; });
    if (!dashes && separator != "." && separator != "_" && separator != "__") {
      return false;
    }
    at = end;
  }
  return true;
}

bool IsPath(std::string_view text) {
  if (text.size() > kMaxPath) {
    return false;
  }
  while (true) {
    const size_t slash = text.find('/');
    if (!IsPathComponent(text.substr(0, slash))) {
      return false;
    }
    if (slash == std::string_view::npos) {
      return true;
    }
    text.remove_prefix(slash + 1);
  }
}

bool IsTag(std::string_view text) {
  return !text.empty() && text.size() <= kMaxTag && text.front() != '.' && text.front() != '-' &&
         AllOf(text, [](char c) { return IsAlnum(c) || c == '_' || c == '.' || c == '-'; });
}

// Whether the part before the first "/" is a registry and not the first component of a path.
bool LooksLikeDomain(std::string_view text) {
  return text.find_first_of(".:") != std::string_view::npos || text == "localhost" ||
         std::any_of(text.begin(), text.end(), IsUpper);
}

absl::Status Invalid(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(
      base::StrCat("image reference \"", text.substr(0, 300), "\": ", why));
}

// Cuts "[:tag][@digest]" off the end of `rest`.
absl::Status CutSelector(std::string_view text, std::string_view* rest, std::string* tag,
                         std::string* digest) {
  if (const size_t at = rest->find('@'); at != std::string_view::npos) {
    *digest = rest->substr(at + 1);
    if (!IsDigest(*digest)) {
      return Invalid(text, "the digest is not sha256 or sha512 in lower-case hexadecimal digits");
    }
    *rest = rest->substr(0, at);
  }
  const size_t slash = rest->rfind('/');
  const size_t colon = rest->rfind(':');
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
    *tag = rest->substr(colon + 1);
    if (!IsTag(*tag)) {
      return Invalid(text, "the tag is malformed");
    }
    *rest = rest->substr(0, colon);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Reference> Reference::Parse(std::string_view text) {
  if (text.empty()) {
    return absl::InvalidArgumentError("the image reference is empty");
  }
  if (text.size() > kMaxReference) {
    return Invalid(text, "it is too long");
  }
  if (base::CheckHex64(text).ok()) {
    return Invalid(text, "64 hexadecimal digits are an image id, not a name");
  }
  Reference reference;
  std::string_view rest = text;
  RETURN_IF_ERROR(CutSelector(text, &rest, &reference.tag_, &reference.digest_));

  const size_t slash = rest.find('/');
  if (slash != std::string_view::npos && LooksLikeDomain(rest.substr(0, slash))) {
    reference.domain_ = rest.substr(0, slash);
    rest.remove_prefix(slash + 1);
    if (!IsRegistryHost(reference.domain_)) {
      return Invalid(text, "the registry's name is malformed");
    }
  }
  if (reference.domain_.empty() || reference.domain_ == "index.docker.io") {
    reference.domain_ = "docker.io";
  }
  reference.path_ = rest;
  if (reference.domain_ == "docker.io" && rest.find('/') == std::string_view::npos) {
    reference.path_ = base::StrCat("library/", rest);
  }
  if (!IsPath(rest) || reference.path_.size() > kMaxPath) {
    return Invalid(text,
                   "the repository's name is malformed (lower-case letters, digits and "
                   "single separators, at most 255 characters)");
  }
  if (reference.tag_.empty() && reference.digest_.empty()) {
    reference.tag_ = "latest";
  }
  return reference;
}

std::string Reference::str() const {
  return digest_.empty() ? base::StrCat(repository(), ":", tag_)
                         : base::StrCat(repository(), "@", digest_);
}

bool IsShortName(std::string_view text) {
  const size_t slash = text.substr(0, text.find('@')).find('/');
  return slash == std::string_view::npos || !LooksLikeDomain(text.substr(0, slash));
}

bool IsDigest(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    return false;
  }
  const std::string_view algorithm = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  return ((algorithm == "sha256" && digits.size() == 64) ||
          (algorithm == "sha512" && digits.size() == 128)) &&
         AllOf(digits, IsLowerHex);
}

std::string ImageIdOf(std::string_view text) {
  constexpr std::string_view kAlgorithm = "sha256:";
  if (text.substr(0, kAlgorithm.size()) == kAlgorithm) {
    text.remove_prefix(kAlgorithm.size());
  }
  return base::CheckHex64(text).ok() ? std::string(text) : std::string();
}

bool IsIdPrefix(std::string_view text) {
  return !text.empty() && text.size() <= 64 && AllOf(text, IsLowerHex);
}

bool IsRegistryHost(std::string_view domain) {
  if (domain.size() > kMaxPath) {
    return false;
  }
  if (!domain.empty() && domain.front() == '[') {
    const size_t close = domain.find(']');
    if (close == std::string_view::npos || !IsIpv6(domain.substr(1, close - 1))) {
      return false;
    }
    const std::string_view rest = domain.substr(close + 1);
    return rest.empty() || (rest.front() == ':' && IsPort(rest.substr(1)));
  }
  if (const size_t colon = domain.find(':'); colon != std::string_view::npos) {
    if (!IsPort(domain.substr(colon + 1))) {
      return false;
    }
    domain = domain.substr(0, colon);
  }
  while (true) {
    const size_t dot = domain.find('.');
    if (!IsDomainLabel(domain.substr(0, dot))) {
      return false;
    }
    if (dot == std::string_view::npos) {
      return true;
    }
    domain.remove_prefix(dot + 1);
  }
}

}  // namespace imageservice
