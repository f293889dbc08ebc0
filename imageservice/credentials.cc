#include "imageservice/credentials.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice {

absl::StatusOr<worker::Credentials> DecodeBasic(const std::string& base64) {
  std::string decoded;
  if (!absl::Base64Unescape(base64, &decoded)) {
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
  std::string_view rest = server_address;
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (rest.starts_with(scheme)) {
      rest.remove_prefix(scheme.size());
      break;
    }
  }
  std::string host = absl::AsciiStrToLower(base::ToAbsl(rest.substr(0, rest.find('/'))));
  if (!server_address.starts_with("http://") && host.ends_with(":443")) {
    host.resize(host.size() - 4);
  }
  return host == "index.docker.io" || host == "registry-1.docker.io" ? "docker.io" : host;
}

bool MayShow(const cri::AuthConfig& auth, const Reference& reference, std::string_view host,
             PassCredentials pass) {
  const std::string own = RegistryOf(reference.domain());
  const std::string meant = auth.server_address().empty() ? own : RegistryOf(auth.server_address());
  return meant == RegistryOf(host) || (pass == PassCredentials::kYes && meant == own);
}

}  // namespace imageservice
