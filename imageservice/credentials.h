// What to show to which registry: the request's AuthConfig, and the node's own auth.json
// (containers-auth.json(5)).
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "imageservice/registries_config.h"
#include "imageservice/worker/protocol.h"
#include "proto/cri.h"

namespace imageservice {

// The credentials in a CRI AuthConfig. One of: username and password; `auth`, the base64 of
// "user:password"; identity_token; registry_token. INVALID_ARGUMENT, without the secret in the
// message, when `auth` is malformed. All empty: anonymous.
absl::StatusOr<worker::Credentials> FromAuthConfig(const cri::AuthConfig& auth);

bool IsAnonymous(const worker::Credentials& credentials);

// The registry a server address means: "https://index.docker.io/v1/" is "docker.io".
std::string RegistryOf(std::string_view server_address);

// Whether the request's credentials may be shown to `endpoint`: with a server address only to that
// registry (or to where registries.conf moved it), without one to any but a mirror.
bool MayShow(const cri::AuthConfig& auth, const Reference& reference, const Endpoint& endpoint);

// A parsed auth.json. Immutable value. Credential helpers are not run.
class AuthFile {
 public:
  AuthFile() = default;

  // A missing file is an empty one. INVALID_ARGUMENT for contents that make no sense.
  static absl::StatusOr<AuthFile> Load(const std::string& path);
  static absl::StatusOr<AuthFile> Parse(std::string_view json);

  // The credentials for a repository: of the longest of "host/a/b", "host/a", "host" that has some.
  worker::Credentials Find(const Reference& reference) const;

 private:
  std::map<std::string, worker::Credentials> entries_;
};

}  // namespace imageservice
