#include "runtimeservice/requests.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "runtimeservice/port_mappings.h"
#include "runtimeservice/spec/security_profile.h"
#include "runtimeservice/spec/user.h"
#include "runtimeservice/spec/user_namespace.h"

namespace runtimeservice {
namespace {

absl::Status Missing(std::string_view field) {
  return absl::InvalidArgumentError(base::StrCat(field, " is missing"));
}

// The longest that Kubernetes itself allows is a DNS name's 253 bytes.
absl::Status CheckName(const std::string& name, std::string_view field) {
  constexpr size_t kLongest = 253;
  if (name.empty()) {
    return Missing(field);
  }
  if (name.size() > kLongest) {
    return absl::InvalidArgumentError(
        base::StrCat(field, " has ", name.size(), " bytes, more than ", kLongest));
  }
  const bool plain =
      std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  return plain ? absl::OkStatus()
               : absl::InvalidArgumentError(base::StrCat(field, " has control characters"));
}

absl::Status CheckNamespaces(const cri::NamespaceOption& options, std::string_view where) {
  for (const auto& [field, mode] :
       {std::make_pair("network", options.network()), std::make_pair("ipc", options.ipc())}) {
    if (mode != cri::POD && mode != cri::NODE) {
      return absl::InvalidArgumentError(
          base::StrCat(where, ".namespace_options.", field, " must be POD or NODE"));
    }
  }
  if (!cri::NamespaceMode_IsValid(options.pid())) {
    return absl::InvalidArgumentError(
        base::StrCat(where, ".namespace_options.pid: there is no mode ", options.pid()));
  }
  return CheckUserNamespace(options, where);
}

bool HasDotDot(const std::string& path) {
  for (const auto& part : absl::StrSplit(path, '/')) {
    if (part == "..") {
      return true;
    }
  }
  return false;
}

std::string Deterministic(const google::protobuf::MessageLite& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

}  // namespace

absl::Status CheckPodConfig(const cri::PodSandboxConfig& config, bool present) {
  if (!present) {
    return Missing("config");
  }
  if (!config.has_metadata()) {
    return Missing("config.metadata");
  }
  const cri::PodSandboxMetadata& metadata = config.metadata();
  RETURN_IF_ERROR(CheckName(metadata.name(), "config.metadata.name"));
  RETURN_IF_ERROR(CheckName(metadata.namespace_(), "config.metadata.namespace"));
  RETURN_IF_ERROR(CheckName(metadata.uid(), "config.metadata.uid"));
  const std::string& log = config.log_directory();
  if (!log.empty() && (log.front() != '/' || HasDotDot(log))) {
    return absl::InvalidArgumentError("config.log_directory must be absolute and without \"..\"");
  }
  const cri::LinuxSandboxSecurityContext& security = config.linux().security_context();
  if (security.namespace_options().pid() == cri::TARGET) {
    return absl::InvalidArgumentError(
        "config.linux.security_context.namespace_options.pid: TARGET is for containers");
  }
  RETURN_IF_ERROR(CheckPortMappings(config));
  RETURN_IF_ERROR(CheckUser(security));
  RETURN_IF_ERROR(CheckPodProfiles(security));
  RETURN_IF_ERROR(CheckNamespaces(security.namespace_options(), "config.linux.security_context"));
  if (security.namespace_options().pid() == cri::NODE && PodIdMap(config).has_value()) {
    return absl::InvalidArgumentError(
        "config.linux.security_context.namespace_options.pid: NODE is not possible with a user "
        "namespace of the pod's own");
  }
  return absl::OkStatus();
}

absl::Status CheckContainerConfig(const cri::ContainerConfig& config, bool present) {
  if (!present) {
    return Missing("config");
  }
  RETURN_IF_ERROR(CheckName(config.metadata().name(), "config.metadata.name"));
  if (config.image().image().empty()) {
    return Missing("config.image.image");
  }
  if (HasDotDot(config.log_path())) {
    return absl::InvalidArgumentError("config.log_path must not contain \"..\"");
  }
  const cri::LinuxContainerSecurityContext& security = config.linux().security_context();
  RETURN_IF_ERROR(CheckUser(security));
  return CheckNamespaces(security.namespace_options(), "config.linux.security_context");
}

const cri::NamespaceOption& EffectiveNamespaces(const cri::PodSandboxConfig& pod,
                                                const cri::ContainerConfig& container) {
  const cri::LinuxContainerSecurityContext& own = container.linux().security_context();
  return own.has_namespace_options() ? own.namespace_options()
                                     : pod.linux().security_context().namespace_options();
}

bool SameMessage(const google::protobuf::MessageLite& a, const google::protobuf::MessageLite& b) {
  return Deterministic(a) == Deterministic(b);
}

}  // namespace runtimeservice
