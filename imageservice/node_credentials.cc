#include "imageservice/node_credentials.h"

#include "base/files.h"
#include "base/sha.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/credentials.h"
#include "imageservice/registries_config.h"

namespace imageservice {

std::vector<AuthFileLocation> DefaultAuthFiles(
    const std::function<std::string(const char*)>& variable, unsigned user_id) {
  const auto value_or = [&](const char* name, const std::string& fallback) {
    const std::string value = variable(name);
    return value.empty() ? fallback : value;
  };
  // A unit of systemd's without User= has no HOME.
  const std::string home = value_or("HOME", user_id == 0 ? "/root" : "");
  std::vector<AuthFileLocation> files;
  const std::string run = variable("XDG_RUNTIME_DIR");
  files.push_back({run.empty() ? base::StrCat("/run/containers/", user_id, "/auth.json")
                               : run + "/containers/auth.json"});
  if (!home.empty()) {
    files.push_back({value_or("XDG_CONFIG_HOME", home + "/.config") + "/containers/auth.json"});
    files.push_back({value_or("DOCKER_CONFIG", home + "/.docker") + "/config.json"});
    files.push_back({home + "/.dockercfg", AuthFile::Format::kDockercfg});
  }
  return files;
}

NodeCredentials::NodeCredentials(const AuthSettings& settings, std::vector<std::string> order,
                                 CredentialHelpers* helpers,
                                 std::function<void(const std::string&)> warn)
    : settings_(settings), order_(std::move(order)), helpers_(helpers), warn_(std::move(warn)) {}

absl::Status NodeCredentials::UseNamespaced(const std::string& pod_namespace,
                                            const std::string& repository) {
  if (settings_.namespaced_directory.empty() || pod_namespace.empty()) {
    return absl::OkStatus();
  }
  const std::string path = base::StrCat(settings_.namespaced_directory, "/", pod_namespace, "-",
                                        base::Sha256Hex(repository), ".json");
  ASSIGN_OR_RETURN(std::optional<AuthFile> file, AuthFile::Load(path, AuthFile::Format::kAuthJson));
  if (!file) {
    return absl::OkStatus();
  }
  // It was written for this pull, and the next is to have its own.
  RETURN_IF_ERROR(base::RemoveFile(path));
  files_ = {File{.path = path, .content = *std::move(file), .configured = true}};
  order_ = {std::string(kAuthFiles)};
  return absl::OkStatus();
}

absl::Status NodeCredentials::LoadFiles() {
  files_.emplace();
  const bool configured = !settings_.global_file.empty();
  const std::vector<AuthFileLocation> locations =
      configured ? std::vector<AuthFileLocation>{{settings_.global_file}} : settings_.default_files;
  for (const AuthFileLocation& location : locations) {
    absl::StatusOr<std::optional<AuthFile>> file = AuthFile::Load(location.path, location.format);
    if (!file.ok() && configured) {
      return file.status();
    }
    if (!file.ok()) {
      warn_(base::StrCat(base::ToStd(file.status().message()), ": ignored"));
    } else if (*file) {
      files_->push_back({location.path, **std::move(file), configured});
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<worker::Credentials> NodeCredentials::Find(const base::Context& ctx,
                                                          const std::string& registry,
                                                          const std::string& repository) {
  for (const std::string& source : order_) {
    Found found;
    if (source == kAuthFiles) {
      ASSIGN_OR_RETURN(found, FindInFiles(ctx, registry, repository));
    } else {
      ASSIGN_OR_RETURN(found, helpers_->Get(ctx, source, RegistryOf(registry)));
    }
    if (found) {
      return *std::move(found);
    }
  }
  return worker::Credentials();
}

absl::StatusOr<NodeCredentials::Found> NodeCredentials::FindInFiles(const base::Context& ctx,
                                                                    const std::string& registry,
                                                                    const std::string& repository) {
  if (!files_) {
    RETURN_IF_ERROR(LoadFiles());
  }
  for (const File& file : *files_) {
    absl::StatusOr<Found> found = FindInFile(ctx, file, registry, repository);
    if (!found.ok() && (file.configured || !ctx.Check().ok())) {
      return base::Annotate(found.status(), file.path);
    }
    if (!found.ok()) {
      warn_(base::StrCat(file.path, ": ", base::ToStd(found.status().message()), ": ignored"));
    } else if (*found) {
      return found;
    }
  }
  return Found();
}

absl::StatusOr<NodeCredentials::Found> NodeCredentials::FindInFile(const base::Context& ctx,
                                                                   const File& file,
                                                                   const std::string& registry,
                                                                   const std::string& repository) {
  if (const std::optional<HelperQuestion> question = file.content.Helper(registry)) {
    ASSIGN_OR_RETURN(Found found, helpers_->Get(ctx, question->helper, question->server));
    if (found) {
      return found;
    }
  }
  return file.content.Find(registry, repository);
}

}  // namespace imageservice
