#include "imageservice/pull_plan.h"

#include <sys/utsname.h>

#include <map>
#include <string_view>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/registry_certificates.h"

namespace imageservice {
namespace {

void AddSources(const Reference& name, const Endpoint& endpoint, worker::Endpoint server,
                PullPlan* plan) {
  server.base_url = base::StrCat("https://", endpoint.host(), "/v2");
  plan->sources.push_back({.name = name, .endpoint = server});
  if (endpoint.insecure) {
    server.base_url = base::StrCat("http://", endpoint.host(), "/v2");
    plan->sources.push_back({.name = name, .endpoint = std::move(server)});
  }
}

}  // namespace

absl::StatusOr<PullPlan> MakePullPlan(const std::string& image, const cri::AuthConfig& auth,
                                      const PullPolicy& policy) {
  ASSIGN_OR_RETURN(const std::vector<Reference> names, policy.registries->Candidates(image));
  ASSIGN_OR_RETURN(const worker::Credentials shown, FromAuthConfig(auth));
  PullPlan plan;
  plan.reference = names.front().str();
  for (const Reference& name : names) {
    ASSIGN_OR_RETURN(const std::vector<Endpoint> endpoints,
                     policy.registries->Endpoints(name, *policy.insecure_registries));
    for (const Endpoint& endpoint : endpoints) {
      ASSIGN_OR_RETURN(
          RegistryCertificates certificates,
          LoadRegistryCertificates(*policy.certificate_directories, endpoint.reference.domain()));
      worker::Endpoint server;
      server.repository = endpoint.reference.path();
      server.insecure = endpoint.insecure;
      server.ca_pem = std::move(certificates.authorities);
      server.client_certificate_pem = std::move(certificates.client_certificate);
      server.client_key_pem = std::move(certificates.client_key);
      server.credentials = !IsAnonymous(shown) && MayShow(auth, name, endpoint)
                               ? shown
                               : policy.auth_file->Find(endpoint.reference);
      AddSources(name, endpoint, std::move(server), &plan);
    }
  }
  return plan;
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
