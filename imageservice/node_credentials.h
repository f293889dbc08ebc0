// The node's own credentials for one pull: auth files and credential helpers in their order.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "imageservice/auth_file.h"
#include "imageservice/credential_helpers.h"
#include "imageservice/reference.h"
#include "imageservice/worker/protocol.h"

namespace imageservice {

// Where an auth file may be.
struct AuthFileLocation {
  std::string path;
  AuthFile::Format format = AuthFile::Format::kAuthJson;
};

// The files in which tools keep a user's credentials, in the order in which they are looked at
// (containers-auth.json(5)). `variable` gives the value of an environment variable, empty when it
// is unset; `user_id` stands for /run/containers/UID.
std::vector<AuthFileLocation> DefaultAuthFiles(
    const std::function<std::string(const char*)>& variable, unsigned user_id);

// Which files count.
struct AuthSettings {
  std::string global_file;  // The one to use; it may be missing. Empty: those of `default_files`.
  std::vector<AuthFileLocation> default_files;
  // Files "NAMESPACE-SHA256.json", by pod namespace and the SHA-256 of the repository's normalised
  // name in hexadecimal, as CRI-O has them from its credential provider for the kubelet. Such a
  // file counts instead of all others, for one pull: it is removed once it is read. Empty: none.
  std::string namespaced_directory;
};

// The lookups of one pull. Each file is read at most once. For one thread.
class NodeCredentials {
 public:
  // `order` is the configuration's list of helpers (RegistriesConfig::credential_helpers). What is
  // wrong with files that nobody configured goes to `warn`. All are borrowed.
  NodeCredentials(const AuthSettings& settings, std::vector<std::string> order,
                  CredentialHelpers* helpers, std::function<void(const std::string&)> warn);

  // Takes the file that is there for pulls of `repository` ("docker.io/library/busybox") by pods of
  // the namespace, if there is one. `pod_namespace` is checked already.
  absl::Status UseNamespaced(const std::string& pod_namespace, const std::string& repository);

  // The credentials for a repository of a registry, anonymous ones when there are none: the first
  // that a file or helper has. Errors name file or helper, and no secret. May run helpers.
  absl::StatusOr<worker::Credentials> Find(const base::Context& ctx, const std::string& registry,
                                           const std::string& repository);

 private:
  using Found = std::optional<worker::Credentials>;

  struct File {
    std::string path;
    AuthFile content;
    bool configured = false;
  };

  absl::Status LoadFiles();
  absl::StatusOr<Found> FindInFiles(const base::Context& ctx, const std::string& registry,
                                    const std::string& repository);
  absl::StatusOr<Found> FindInFile(const base::Context& ctx, const File& file,
                                   const std::string& registry, const std::string& repository);

  const AuthSettings& settings_;
  std::vector<std::string> order_;
  CredentialHelpers* const helpers_;
  const std::function<void(const std::string&)> warn_;
  std::optional<std::vector<File>> files_;
};

}  // namespace imageservice
