// What to show to which registry: the request's AuthConfig and whom it may be shown to.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "imageservice/reference.h"
#include "imageservice/worker/protocol.h"
#include "proto/cri.h"

namespace imageservice {

// The credentials in a CRI AuthConfig. One of: username and password; identity_token; `auth`, the
// base64 of "user:password"; registry_token. INVALID_ARGUMENT, without the secret in the message,
// when `auth` is malformed. All empty: anonymous.
absl::StatusOr<worker::Credentials> FromAuthConfig(const cri::AuthConfig& auth);

// "user:password" in base64, as auth.json has it. INVALID_ARGUMENT without the secret.
absl::StatusOr<worker::Credentials> DecodeBasic(const std::string& base64);

bool IsAnonymous(const worker::Credentials& credentials);

// The registry that a server address or a host means, in the form in which they are compared:
// "https://index.docker.io/v1/" and "registry-1.docker.io:443" are "docker.io".
std::string RegistryOf(std::string_view server_address);

// Whom a host's operator has said to trust with the credentials for another registry.
enum class PassCredentials { kNo, kYes };

// Whether the request's credentials for `reference` may be shown to `host` ("m.io:5000"). They are
// for one registry: the server address, or without one the reference's own. They are shown to that
// host and, by pass_credentials, to one that stands for it.
bool MayShow(const cri::AuthConfig& auth, const Reference& reference, std::string_view host,
             PassCredentials pass);

}  // namespace imageservice
