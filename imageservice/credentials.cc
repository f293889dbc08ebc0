#include "imageservice/credentials.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "base/files.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice {
namespace {

constexpr size_t kMaxFile = 1 << 20;

// "user:password" in base64, as browsers and docker's config.json have it.
absl::StatusOr<worker::Credentials> DecodeBasic(const std::string& text) {
  std::string decoded;
  if (!absl::Base64Unescape(text, &decoded)) {
    return absl::InvalidArgumentError("auth is not base64");
  }
  const size_t colon = decoded.find(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError("auth is not the base64 of user:password");
  }
  worker::Credentials credentials;
  credentials.username = decoded.substr(0, colon);
  credentials.password = decoded.substr(colon + 1);
  while (!credentials.password.empty() && credentials.password.back() == '\0') {
    credentials.password.pop_back();
  }
  return credentials;
}

std::string_view WithoutScheme(std::string_view text) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (text.substr(0, scheme.size()) == scheme) {
      return text.substr(scheme.size());
    }
  }
  return text;
}

absl::StatusOr<worker::Credentials> ParseEntry(const base::Json& entry) {
  ASSIGN_OR_RETURN(const std::string auth, base::JsonString(entry, "auth"));
  ASSIGN_OR_RETURN(const std::string identity_token, base::JsonString(entry, "identitytoken"));
  worker::Credentials credentials;
  if (!auth.empty()) {
    ASSIGN_OR_RETURN(credentials, DecodeBasic(auth));
  }
  if (!identity_token.empty()) {
    credentials.identity_token = identity_token;
  }
  return credentials;
}

// The form in which keys are compared. Keys with a scheme are URLs of version 1 registries, whose
// path says nothing; others may name a repository.
std::string KeyOf(std::string_view key) {
  if (WithoutScheme(key) != key) {
    return RegistryOf(key);
  }
  const size_t slash = key.find('/');
  std::string normal = RegistryOf(key);
  if (slash != std::string_view::npos) {
    normal += key.substr(slash);
  }
  while (!normal.empty() && normal.back() == '/') {
    normal.pop_back();
  }
  return normal == "docker.io/v1" ? "docker.io" : normal;
}

}  // namespace

absl::StatusOr<worker::Credentials> FromAuthConfig(const cri::AuthConfig& auth) {
  worker::Credentials credentials;
  if (!auth.username().empty()) {
    credentials.username = auth.username();
    credentials.password = auth.password();
  } else if (!auth.identity_token().empty()) {
    credentials.identity_token = auth.identity_token();
  } else if (!auth.auth().empty()) {
    ASSIGN_OR_RETURN(credentials, DecodeBasic(auth.auth()));
  } else {
    credentials.registry_token = auth.registry_token();
  }
  return credentials;
}

bool IsAnonymous(const worker::Credentials& credentials) {
  return credentials.username.empty() && credentials.password.empty() &&
         credentials.identity_token.empty() && credentials.registry_token.empty();
}

std::string RegistryOf(std::string_view server_address) {
  const std::string_view rest = WithoutScheme(server_address);
  const std::string host(rest.substr(0, rest.find('/')));
  return host == "index.docker.io" || host == "registry-1.docker.io" ? "docker.io" : host;
}

bool MayShow(const cri::AuthConfig& auth, const Reference& reference, const Endpoint& endpoint) {
  if (auth.server_address().empty()) {
    return !endpoint.mirror;
  }
  const std::string registry = RegistryOf(auth.server_address());
  return registry == RegistryOf(endpoint.reference.domain()) ||
         (!endpoint.mirror && registry == RegistryOf(reference.domain()));
}

absl::StatusOr<AuthFile> AuthFile::Load(const std::string& path) {
  absl::StatusOr<std::string> text = base::ReadFile(path, kMaxFile);
  if (absl::IsNotFound(text.status())) {
    return AuthFile();
  }
  RETURN_IF_ERROR(text.status());
  absl::StatusOr<AuthFile> file = Parse(*text);
  if (!file.ok()) {
    return base::Annotate(file.status(), path);
  }
  return file;
}

absl::StatusOr<AuthFile> AuthFile::Parse(std::string_view json) {
  absl::StatusOr<base::Json> document = base::ParseJson(json);
  if (!document.ok()) {
    // The parser quotes what it stumbled over, which may be a secret.
    return absl::InvalidArgumentError("not a JSON document");
  }
  AuthFile file;
  const base::Json& auths = base::JsonMember(*document, "auths");
  if (auths.is_null()) {
    return file;
  }
  if (!auths.is_object()) {
    return absl::InvalidArgumentError("\"auths\" is not an object");
  }
  for (const auto& [key, value] : auths.items()) {
    absl::StatusOr<worker::Credentials> credentials = ParseEntry(value);
    if (!credentials.ok()) {
      return absl::InvalidArgumentError(base::StrCat("the entry for ", key, " makes no sense"));
    }
    if (!IsAnonymous(*credentials)) {
      file.entries_.emplace(KeyOf(key), *std::move(credentials));
    }
  }
  return file;
}

worker::Credentials AuthFile::Find(const Reference& reference) const {
  std::string key = base::StrCat(RegistryOf(reference.domain()), "/", reference.path());
  for (;;) {
    const auto found = entries_.find(key);
    if (found != entries_.end()) {
      return found->second;
    }
    const size_t slash = key.rfind('/');
    if (slash == std::string::npos) {
      return worker::Credentials();
    }
    key.resize(slash);
  }
}

}  // namespace imageservice
