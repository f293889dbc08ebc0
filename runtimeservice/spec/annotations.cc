#include "runtimeservice/spec/annotations.h"

#include <algorithm>

#include "base/strings.h"

namespace runtimeservice {
namespace {

constexpr std::string_view kReserved[] = {"run.oci.", "org.systemd.property.", "io.kubernetes.cri"};

bool HasPrefix(std::string_view name, std::string_view prefix) {
  return name.substr(0, prefix.size()) == prefix;
}

// An empty prefix would take everything; it is more likely a slip than a wish.
bool HasAnyPrefix(std::string_view name, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [name](const std::string& prefix) {
    return !prefix.empty() && HasPrefix(name, prefix);
  });
}

// VM runtimes size the sandbox by these.
void AddSandboxResources(const cri::PodSandboxConfig& pod,
                         std::map<std::string, std::string>* annotations) {
  if (!pod.linux().has_resources()) {
    return;
  }
  const cri::LinuxContainerResources& resources = pod.linux().resources();
  const auto add = [&](const char* name, int64_t value) {
    (*annotations)[base::StrCat("io.kubernetes.cri.sandbox-", name)] = base::StrCat(value);
  };
  add("cpu-period", resources.cpu_period());
  add("cpu-quota", resources.cpu_quota());
  add("cpu-shares", resources.cpu_shares());
  add("memory", resources.memory_limit_in_bytes());
}

}  // namespace

bool AnnotationAllowed(std::string_view name, const std::vector<std::string>& allowed,
                       const std::vector<std::string>& disallowed) {
  for (const std::string_view reserved : kReserved) {
    if (HasPrefix(name, reserved)) {
      return false;
    }
  }
  return HasAnyPrefix(name, allowed) && !HasAnyPrefix(name, disallowed);
}

std::map<std::string, std::string> AllowedAnnotations(const cri::PodSandboxConfig& pod,
                                                      const cri::ContainerConfig& container,
                                                      const std::vector<std::string>& allowed,
                                                      const std::vector<std::string>& disallowed) {
  std::map<std::string, std::string> result;
  for (const auto* annotations : {&pod.annotations(), &container.annotations()}) {
    for (const auto& [name, value] : *annotations) {
      if (AnnotationAllowed(name, allowed, disallowed)) {
        result[name] = value;
      }
    }
  }
  return result;
}

std::map<std::string, std::string> IdentityAnnotations(const ContainerIdentity& identity) {
  const char* type = identity.holds_sandbox ? "sandbox" : "container";
  const cri::PodSandboxMetadata& pod = identity.pod.metadata();
  std::map<std::string, std::string> result = {
      {"io.kubernetes.cri.container-type", type},
      {"io.kubernetes.cri.sandbox-id", identity.pod_id},
      {"io.kubernetes.cri.sandbox-name", pod.name()},
      {"io.kubernetes.cri.sandbox-namespace", pod.namespace_()},
      {"io.kubernetes.cri.sandbox-uid", pod.uid()},
      {"io.kubernetes.cri-o.ContainerType", type},
      {"io.kubernetes.cri-o.SandboxID", identity.pod_id},
      {"io.kubernetes.cri-o.KubeName", pod.name()},
      {"io.kubernetes.cri-o.Namespace", pod.namespace_()},
      {"io.kubernetes.cri-o.ContainerID", identity.container_id},
      {"io.kubernetes.cri-o.ContainerName", identity.container.metadata().name()}};
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) {
      result[name] = value;
    }
  };
  add("io.kubernetes.cri.sandbox-log-directory", identity.pod.log_directory());
  add("io.kubernetes.cri-o.LogPath", identity.log_path);
  if (identity.holds_sandbox) {
    AddSandboxResources(identity.pod, &result);
    return result;
  }
  const cri::ImageSpec& image = identity.container.image();
  const std::string& image_name =
      image.user_specified_image().empty() ? image.image() : image.user_specified_image();
  result["io.kubernetes.cri.container-name"] = identity.container.metadata().name();
  add("io.kubernetes.cri.image-name", image_name);
  add("io.kubernetes.cri-o.ImageName", image_name);
  add("io.kubernetes.cri-o.Image", identity.image_id);
  return result;
}

}  // namespace runtimeservice
