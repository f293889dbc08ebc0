// auth.json (containers-auth.json(5)), which docker's config.json is too: the node's own
// credentials.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "imageservice/worker/protocol.h"

namespace imageservice {

// A program to ask, and the words to ask it by.
struct HelperQuestion {
  std::string helper;  // "NAME" of docker-credential-NAME.
  std::string server;  // "gcr.io".
};

// A parsed file. Immutable value.
class AuthFile {
 public:
  // kDockercfg is the old form: the map of registries alone.
  enum class Format { kAuthJson, kDockercfg };

  AuthFile() = default;

  // nullopt for a missing file. INVALID_ARGUMENT for contents that make no sense, with the path and
  // without a secret.
  static absl::StatusOr<std::optional<AuthFile>> Load(const std::string& path, Format format);
  // An entry that makes no sense is an error only for those who need it.
  static absl::StatusOr<AuthFile> Parse(std::string_view json, Format format = Format::kAuthJson);

  // Who is to be asked for a registry's credentials, by `credHelpers` or else `credsStore`.
  // nullopt: nobody, Find has what there is.
  std::optional<HelperQuestion> Helper(std::string_view registry) const;

  // The credentials in the file for a repository ("quay.io", "team/app"): those of the longest of
  // "host/a/b", "host/a", "host" that has some. nullopt when none has. INVALID_ARGUMENT when that
  // entry makes no sense.
  absl::StatusOr<std::optional<worker::Credentials>> Find(std::string_view registry,
                                                          std::string_view repository) const;

 private:
  std::map<std::string, absl::StatusOr<worker::Credentials>> entries_;
  std::map<std::string, HelperQuestion> helpers_;  // By registry.
  std::string store_;                              // The helper for all; empty: none.
};

}  // namespace imageservice
