// Certificates for registries, in directories by host (containers-certs.d(5)).
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageservice {

// PEM texts; empty where there is none.
struct RegistryCertificates {
  std::string authorities;
  std::string client_certificate;
  std::string client_key;
};

// What is in `<directory>/<host>` of the first directory that has one: every `*.crt` is a
// certificate authority, `NAME.cert` with `NAME.key` is our own certificate (the first by name).
// FAILED_PRECONDITION for a certificate without its key and a key without its certificate.
absl::StatusOr<RegistryCertificates> LoadRegistryCertificates(
    const std::vector<std::string>& directories, const std::string& host);

// The same of the files in `directory` itself. NOT_FOUND when it is missing.
absl::StatusOr<RegistryCertificates> LoadCertificateDirectory(const std::string& directory);

// Adds the PEM text of a certificate authority from `path`. FAILED_PRECONDITION when it cannot be
// read.
absl::Status AddAuthority(const std::string& path, RegistryCertificates* certificates);

// Sets our own certificate: from two files, or from one that holds both when `key_path` is empty.
// FAILED_PRECONDITION when one cannot be read.
absl::Status SetClientCertificate(const std::string& certificate_path, const std::string& key_path,
                                  RegistryCertificates* certificates);

// `first`, with the authorities of `second` too, and its client certificate if the first has none.
RegistryCertificates MergeCertificates(RegistryCertificates first,
                                       const RegistryCertificates& second);

}  // namespace imageservice
