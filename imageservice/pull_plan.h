// From a CRI request and the node's files to what a pull worker is told.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/launcher.h"
#include "base/mutex.h"
#include "imageservice/credential_helpers.h"
#include "imageservice/credentials.h"
#include "imageservice/hosts_toml.h"
#include "imageservice/node_credentials.h"
#include "imageservice/pull_session.h"
#include "imageservice/registries_config.h"
#include "imageservice/registries_source.h"
#include "imageservice/signature_policy.h"
#include "proto/cri.h"

namespace imageservice {

// Where the node says which registries to ask, how, with what credentials, and for what images. By
// default nowhere.
struct RegistrySettings {
  RegistriesConfig::Files files;                     // registries.conf and its like.
  std::vector<std::string> insecure_registries;      // Plain HTTP is allowed (registries_config.h).
  std::vector<std::string> certificate_directories;  // certs.d (registry_certificates.h).
  std::vector<std::string> hosts_directories;        // hosts.toml (hosts_toml.h).
  AuthSettings auth;
  CredentialHelpers::Config helpers;
  std::string policy_file;       // policy.json (signature_policy.h); empty: anything is accepted.
  bool policy_required = false;  // A missing policy_file is an error.
  std::string policy_directory;  // NAMESPACE.json here is for pods of that namespace; empty: none.
};

// Makes plans. Thread-safe; Plan reads files and may run credential helpers, under no lock.
class PullPlanner {
 public:
  // `launcher` must outlive it.
  PullPlanner(RegistrySettings settings, const base::Launcher* launcher);

  // Reads registries.conf, so that registries() knows it.
  absl::Status Load() { return source_.Current().status(); }
  // By the last registries.conf that made sense; never null.
  std::shared_ptr<const RegistriesConfig> registries() const { return source_.LastGood(); }

  // The servers to ask for the image of the request, in order: of each name it may stand for and
  // that the signature policy accepts, the mirrors and then the registry, as registries.conf says;
  // of each of these the hosts that hosts.toml has for it come first. An insecure server is asked
  // by HTTPS without verification, then by HTTP. The request's credentials are shown where MayShow
  // allows it, elsewhere what the node itself has. Errors name the file that is to blame, and no
  // secret.
  absl::StatusOr<PullPlan> Plan(const base::Context& ctx, const cri::PullImageRequest& request);

 private:
  struct Work;

  absl::StatusOr<SignaturePolicy> Policy(const std::string& pod_namespace) const;
  absl::Status AddName(const Reference& name, Work* work);
  absl::Status AddEndpoint(const Reference& name, const Endpoint& endpoint, Work* work);
  absl::Status AddHost(const Reference& name, const Endpoint& endpoint, const RegistryHost& host,
                       Work* work);
  absl::Status AddOwn(const Reference& name, const Endpoint& endpoint, const RegistryHost& host,
                      Work* work);
  absl::StatusOr<worker::Endpoint> Server(const Reference& name, const Endpoint& endpoint,
                                          const std::string& authority, PassCredentials pass,
                                          const RegistryHost& host, Work* work);
  // Into the log, each text once.
  void Warn(const std::string& text);

  const RegistrySettings settings_;
  RegistriesSource source_;
  CredentialHelpers helpers_;

  base::Mutex mutex_;
  std::set<std::string> warned_ ABSL_GUARDED_BY(mutex_);
};

// What this machine runs, in Go's names.
worker::Platform HostPlatform();

}  // namespace imageservice
