#include "runtimeservice/spec/annotations.h"

namespace runtimeservice {
namespace {

constexpr std::string_view kReserved[] = {"run.oci.", "org.systemd.property.", "io.kubernetes.cri"};

bool HasPrefix(std::string_view name, std::string_view prefix) {
  return name.substr(0, prefix.size()) == prefix;
}

}  // namespace

bool AnnotationAllowed(std::string_view name, const std::vector<std::string>& allowed) {
  for (const std::string_view reserved : kReserved) {
    if (HasPrefix(name, reserved)) {
      return false;
    }
  }
  for (const std::string& prefix : allowed) {
    // An empty prefix would allow everything; it is more likely a slip than a wish.
    if (!prefix.empty() && HasPrefix(name, prefix)) {
      return true;
    }
  }
  return false;
}

std::map<std::string, std::string> AllowedAnnotations(const cri::PodSandboxConfig& pod,
                                                      const cri::ContainerConfig& container,
                                                      const std::vector<std::string>& allowed) {
  std::map<std::string, std::string> result;
  for (const auto* annotations : {&pod.annotations(), &container.annotations()}) {
    for (const auto& [name, value] : *annotations) {
      if (AnnotationAllowed(name, allowed)) {
        result[name] = value;
      }
    }
  }
  return result;
}

}  // namespace runtimeservice
