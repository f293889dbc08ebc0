// Certificates for registries, in directories by host (containers-certs.d(5)).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace imageservice {

// PEM texts; empty where there is none.
struct RegistryCertificates {
  std::string authorities;
  std::string client_certificate;
  std::string client_key;
};

// What is in `<directory>/<host>` of the first directory that has one: every `*.crt` is a
// certificate authority, `NAME.cert` with `NAME.key` is our own certificate. FAILED_PRECONDITION
// for a certificate without its key.
absl::StatusOr<RegistryCertificates> LoadRegistryCertificates(
    const std::vector<std::string>& directories, const std::string& host);

}  // namespace imageservice
