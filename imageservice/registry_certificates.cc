#include "imageservice/registry_certificates.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice {
namespace {

constexpr size_t kMaxFile = 1 << 20;

// "NAME" of "NAME.suffix"; empty for other names.
std::string_view Stem(std::string_view name, std::string_view suffix) {
  return name.size() > suffix.size() && name.ends_with(suffix)
             ? name.substr(0, name.size() - suffix.size())
             : std::string_view();
}

// FAILED_PRECONDITION for whatever keeps it from being read.
absl::StatusOr<std::string> ReadPem(const std::string& path) {
  absl::StatusOr<std::string> text = base::ReadFile(path, kMaxFile);
  if (!text.ok()) {
    return absl::FailedPreconditionError(text.status().message());
  }
  return text;
}

}  // namespace

absl::Status AddAuthority(const std::string& path, RegistryCertificates* certificates) {
  ASSIGN_OR_RETURN(const std::string authority, ReadPem(path));
  certificates->authorities += authority + "\n";
  return absl::OkStatus();
}

absl::Status SetClientCertificate(const std::string& certificate_path, const std::string& key_path,
                                  RegistryCertificates* certificates) {
  ASSIGN_OR_RETURN(certificates->client_certificate, ReadPem(certificate_path));
  if (key_path.empty()) {
    certificates->client_key = certificates->client_certificate;
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> key = ReadPem(key_path);
  if (!key.ok()) {
    return absl::FailedPreconditionError(
        base::StrCat(certificate_path, " has no key: ", base::ToStd(key.status().message())));
  }
  certificates->client_key = *std::move(key);
  return absl::OkStatus();
}

RegistryCertificates MergeCertificates(RegistryCertificates first,
                                       const RegistryCertificates& second) {
  first.authorities += second.authorities;
  if (first.client_certificate.empty()) {
    first.client_certificate = second.client_certificate;
    first.client_key = second.client_key;
  }
  return first;
}

absl::StatusOr<RegistryCertificates> LoadCertificateDirectory(const std::string& directory) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, base::ListDirectory(directory));
  RegistryCertificates certificates;
  for (const std::string& name : names) {
    const std::string path = base::StrCat(directory, "/", name);
    if (!Stem(name, ".crt").empty()) {
      RETURN_IF_ERROR(AddAuthority(path, &certificates));
    } else if (const std::string_view client = Stem(name, ".cert");
               !client.empty() && certificates.client_certificate.empty()) {
      RETURN_IF_ERROR(
          SetClientCertificate(path, base::StrCat(directory, "/", client, ".key"), &certificates));
    } else if (const std::string_view key = Stem(name, ".key");
               !key.empty() &&
               !std::binary_search(names.begin(), names.end(), base::StrCat(key, ".cert"))) {
      return absl::FailedPreconditionError(
          base::StrCat(path, " is the key of no certificate: ", key, ".cert is missing"));
    }
  }
  return certificates;
}

absl::StatusOr<RegistryCertificates> LoadRegistryCertificates(
    const std::vector<std::string>& directories, const std::string& host) {
  for (const std::string& parent : directories) {
    absl::StatusOr<RegistryCertificates> certificates =
        LoadCertificateDirectory(base::StrCat(parent, "/", host));
    if (!absl::IsNotFound(certificates.status())) {
      return certificates;
    }
  }
  return RegistryCertificates();
}

}  // namespace imageservice
