#include "imageservice/registry_certificates.h"

#include <string_view>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice {
namespace {

constexpr size_t kMaxFile = 1 << 20;

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() > end.size() && text.substr(text.size() - end.size()) == end;
}

absl::StatusOr<RegistryCertificates> LoadFrom(const std::string& directory,
                                              const std::vector<std::string>& names) {
  RegistryCertificates certificates;
  for (const std::string& name : names) {
    const std::string path = base::StrCat(directory, "/", name);
    if (EndsWith(name, ".crt")) {
      ASSIGN_OR_RETURN(const std::string authority, base::ReadFile(path, kMaxFile));
      certificates.authorities += authority + "\n";
    } else if (EndsWith(name, ".cert") && certificates.client_certificate.empty()) {
      const std::string key_path = path.substr(0, path.size() - 5) + ".key";
      ASSIGN_OR_RETURN(certificates.client_certificate, base::ReadFile(path, kMaxFile));
      absl::StatusOr<std::string> key = base::ReadFile(key_path, kMaxFile);
      if (!key.ok()) {
        return absl::FailedPreconditionError(
            base::StrCat(path, " has no key: ", base::ToStd(key.status().message())));
      }
      certificates.client_key = *std::move(key);
    }
  }
  return certificates;
}

}  // namespace

absl::StatusOr<RegistryCertificates> LoadRegistryCertificates(
    const std::vector<std::string>& directories, const std::string& host) {
  for (const std::string& parent : directories) {
    const std::string directory = base::StrCat(parent, "/", host);
    const absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(directory);
    if (absl::IsNotFound(names.status())) {
      continue;
    }
    RETURN_IF_ERROR(names.status());
    return LoadFrom(directory, *names);
  }
  return RegistryCertificates();
}

}  // namespace imageservice
