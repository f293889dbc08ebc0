#include "imageservice/pull_plan.h"

#include <arpa/inet.h>
#include <sys/utsname.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/registry_certificates.h"

namespace imageservice {
namespace {

constexpr size_t kMaxWarned = 256;

// A namespace of Kubernetes, which becomes part of a file's name (RFC 1123, label).
absl::Status CheckNamespace(std::string_view name) {
  const bool label = name.size() <= 63 && std::all_of(name.begin(), name.end(), [](char c) {
                       return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
                     });
  return label ? absl::OkStatus() : absl::InvalidArgumentError("the pod's namespace is malformed");
}

// Whether the host can only be this machine: an address, or the one name for it. Another name that
// looks like an address ("127.0.0.1.example.com") is anybody's.
bool IsLoopback(std::string_view domain) {
  if (domain.starts_with('[')) {
    return domain.starts_with("[::1]");
  }
  const std::string host(domain.substr(0, domain.find(':')));
  in_addr address = {};
  const bool is_address = inet_pton(AF_INET, host.c_str(), &address) == 1;
  return host == "localhost" || (is_address && (ntohl(address.s_addr) >> 24) == 127);
}

}  // namespace

// One plan that is being made.
struct PullPlanner::Work {
  const base::Context& ctx;
  const cri::AuthConfig& auth;
  const worker::Credentials shown;  // What is in `auth`.
  const RegistriesConfig& registries;
  NodeCredentials* credentials;
  PullPlan plan;
};

PullPlanner::PullPlanner(RegistrySettings settings, const base::Launcher* launcher)
    : settings_(std::move(settings)),
      source_(settings_.files),
      helpers_(settings_.helpers, launcher) {}

absl::StatusOr<PullPlan> PullPlanner::Plan(const base::Context& ctx,
                                           const cri::PullImageRequest& request) {
  RETURN_IF_ERROR(ctx.Check());
  const std::string& image = request.image().image();
  const std::string& pod_namespace = request.sandbox_config().metadata().namespace_();
  RETURN_IF_ERROR(CheckNamespace(pod_namespace));
  ASSIGN_OR_RETURN(const std::shared_ptr<const RegistriesConfig> registries, source_.Current());
  ASSIGN_OR_RETURN(const std::vector<Reference> names, registries->Candidates(image));
  ASSIGN_OR_RETURN(const SignaturePolicy policy, Policy(pod_namespace));
  ASSIGN_OR_RETURN(worker::Credentials shown, FromAuthConfig(request.auth()));
  NodeCredentials credentials(settings_.auth, registries->credential_helpers(), &helpers_,
                              [this](const std::string& text) { Warn(text); });
  ASSIGN_OR_RETURN(const Reference plain, Reference::Parse(image));
  RETURN_IF_ERROR(credentials.UseNamespaced(pod_namespace, plain.repository()));

  Work work = {.ctx = ctx,
               .auth = request.auth(),
               .shown = std::move(shown),
               .registries = *registries,
               .credentials = &credentials,
               .plan = {.reference = names.front().str(), .sources = {}}};
  absl::Status refusal;  // Of the first name, with what the others say.
  for (const Reference& name : names) {
    absl::Status added = policy.Check(name);
    if (added.ok()) {
      added = AddName(name, &work);
    }
    if (absl::IsPermissionDenied(added)) {  // By the policy or a block: the next name may do.
      refusal = refusal.ok()
                    ? added
                    : absl::PermissionDeniedError(base::StrCat(base::ToStd(refusal.message()), "; ",
                                                               base::ToStd(added.message())));
      continue;
    }
    RETURN_IF_ERROR(added);
  }
  if (work.plan.sources.empty()) {
    RETURN_IF_ERROR(refusal);
    return absl::FailedPreconditionError(
        base::StrCat(names.front().str(), ": hosts.toml leaves no server to ask"));
  }
  return std::move(work.plan);
}

absl::StatusOr<SignaturePolicy> PullPlanner::Policy(const std::string& pod_namespace) const {
  if (!settings_.policy_directory.empty() && !pod_namespace.empty()) {
    ASSIGN_OR_RETURN(std::optional<SignaturePolicy> policy,
                     SignaturePolicy::Load(
                         base::StrCat(settings_.policy_directory, "/", pod_namespace, ".json")));
    if (policy) {
      return *std::move(policy);
    }
  }
  if (settings_.policy_file.empty()) {
    return SignaturePolicy();
  }
  ASSIGN_OR_RETURN(std::optional<SignaturePolicy> policy,
                   SignaturePolicy::Load(settings_.policy_file));
  if (!policy && settings_.policy_required) {
    return absl::FailedPreconditionError(
        base::StrCat("the signature policy ", settings_.policy_file, " is missing"));
  }
  return policy ? *std::move(policy) : SignaturePolicy();
}

absl::Status PullPlanner::AddName(const Reference& name, Work* work) {
  ASSIGN_OR_RETURN(const std::vector<Endpoint> endpoints,
                   work->registries.Endpoints(name, settings_.insecure_registries));
  for (const Endpoint& endpoint : endpoints) {
    RETURN_IF_ERROR(AddEndpoint(name, endpoint, work));
  }
  return absl::OkStatus();
}

absl::Status PullPlanner::AddEndpoint(const Reference& name, const Endpoint& endpoint, Work* work) {
  ASSIGN_OR_RETURN(const std::optional<RegistryHosts> hosts,
                   LoadRegistryHosts(settings_.hosts_directories, endpoint.reference.domain()));
  if (!hosts) {
    return AddOwn(name, endpoint, RegistryHost(), work);
  }
  for (const std::string& warning : hosts->warnings) {
    Warn(base::StrCat(warning, ": ignored"));
  }
  for (const RegistryHost& host : hosts->mirrors) {
    RETURN_IF_ERROR(AddHost(name, endpoint, host, work));
  }
  if (!hosts->server.url.empty()) {
    return AddHost(name, endpoint, hosts->server, work);
  }
  Endpoint own = endpoint;
  own.insecure |= IsLoopback(endpoint.reference.domain());  // As whoever wrote the folder expects.
  return AddOwn(name, own, hosts->server, work);
}

absl::Status PullPlanner::AddHost(const Reference& name, const Endpoint& endpoint,
                                  const RegistryHost& host, Work* work) {
  const PassCredentials pass = host.pass_credentials ? PassCredentials::kYes : PassCredentials::kNo;
  ASSIGN_OR_RETURN(worker::Endpoint server,
                   Server(name, endpoint, host.authority, pass, host, work));
  server.base_url = host.url;
  server.insecure = host.skip_verify || host.plain_http();
  const std::string& registry = endpoint.reference.domain();
  if (RegistryOf(host.authority) != RegistryOf(registry)) {
    server.registry_namespace = registry;
  }
  if (host.can_pull || host.can_resolve) {
    work->plan.sources.push_back({.name = name, .endpoint = std::move(server)});
  }
  return absl::OkStatus();
}

absl::Status PullPlanner::AddOwn(const Reference& name, const Endpoint& endpoint,
                                 const RegistryHost& host, Work* work) {
  const PassCredentials pass = endpoint.pass_credentials || host.pass_credentials
                                   ? PassCredentials::kYes
                                   : PassCredentials::kNo;
  ASSIGN_OR_RETURN(worker::Endpoint server,
                   Server(name, endpoint, endpoint.reference.domain(), pass, host, work));
  server.insecure = endpoint.insecure || host.skip_verify;
  server.base_url = base::StrCat("https://", endpoint.host(), "/v2");
  if (!host.can_pull && !host.can_resolve) {
    return absl::OkStatus();
  }
  work->plan.sources.push_back({.name = name, .endpoint = server});
  if (endpoint.insecure) {
    server.base_url = base::StrCat("http://", endpoint.host(), "/v2");
    work->plan.sources.push_back({.name = name, .endpoint = std::move(server)});
  }
  return absl::OkStatus();
}

absl::StatusOr<worker::Endpoint> PullPlanner::Server(const Reference& name,
                                                     const Endpoint& endpoint,
                                                     const std::string& authority,
                                                     PassCredentials pass, const RegistryHost& host,
                                                     Work* work) {
  worker::Endpoint server;
  server.repository = endpoint.reference.path();
  server.headers = host.headers;
  server.can_pull = host.can_pull;
  server.can_resolve = host.can_resolve;
  server.connect_timeout_seconds = host.connect_timeout_seconds;
  ASSIGN_OR_RETURN(const RegistryCertificates shared,
                   LoadRegistryCertificates(settings_.certificate_directories, authority));
  RegistryCertificates certificates = MergeCertificates(host.certificates, shared);
  server.ca_pem = std::move(certificates.authorities);
  server.client_certificate_pem = std::move(certificates.client_certificate);
  server.client_key_pem = std::move(certificates.client_key);
  if (!IsAnonymous(work->shown) && MayShow(work->auth, name, authority, pass)) {
    server.credentials = work->shown;
    return server;
  }
  absl::StatusOr<worker::Credentials> own =
      work->credentials->Find(work->ctx, authority, server.repository);
  if (own.ok()) {
    server.credentials = *std::move(own);
    return server;
  }
  // What stands for another registry is not worth failing for.
  const bool mirror = endpoint.mirror || RegistryOf(authority) != RegistryOf(name.domain());
  if (!mirror || !work->ctx.Check().ok()) {
    return own.status();
  }
  Warn(base::StrCat("mirror ", authority,
                    " is asked without credentials: ", base::ToStd(own.status().message())));
  return server;
}

void PullPlanner::Warn(const std::string& text) {
  {
    base::MutexLock lock(&mutex_);
    if (warned_.size() >= kMaxWarned || !warned_.insert(text).second) {
      return;
    }
  }
  base::LogWarning(text);
}

worker::Platform HostPlatform() {
  static constexpr std::pair<std::string_view, std::string_view> kArchitectures[] = {
      {"x86_64", "amd64"},        {"i686", "386"},       {"i386", "386"},
      {"aarch64", "arm64"},       {"armv7l", "arm"},     {"armv6l", "arm"},
      {"ppc64le", "ppc64le"},     {"s390x", "s390x"},    {"riscv64", "riscv64"},
      {"loongarch64", "loong64"}, {"mips64", "mips64le"}};
  utsname name = {};
  uname(&name);
  const std::string_view machine = name.machine;
  worker::Platform platform = {.os = "linux", .architecture = std::string(machine), .variant = ""};
  for (const auto& [kernel, go] : kArchitectures) {
    if (machine == kernel) {
      platform.architecture = go;
    }
  }
  if (machine == "aarch64") {
    platform.variant = "v8";
  } else if (machine.substr(0, 4) == "armv") {
    platform.variant = base::StrCat("v", machine.substr(4, 1));
  }
  return platform;
}

}  // namespace imageservice
