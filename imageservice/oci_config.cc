#include "imageservice/oci_config.h"

#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/reference.h"

namespace imageservice {
namespace {

absl::StatusOr<std::vector<std::string>> StringOrList(const base::Json& object,
                                                      std::string_view key) {
  const base::Json& member = base::JsonMember(object, key);
  if (member.is_string()) {
    ASSIGN_OR_RETURN(std::string text, base::JsonString(object, key));
    return text.empty() ? std::vector<std::string>() : std::vector<std::string>{std::move(text)};
  }
  return base::JsonStrings(object, key);
}

absl::StatusOr<std::vector<std::string>> MemberNames(const base::Json& object,
                                                     std::string_view key) {
  const base::Json& member = base::JsonMember(object, key);
  std::vector<std::string> names;
  if (member.is_null()) {
    return names;
  }
  if (!member.is_object()) {
    return absl::InvalidArgumentError(base::StrCat(key, " is not an object"));
  }
  for (const auto& [name, value] : member.items()) {
    names.push_back(name);
  }
  return names;
}

absl::StatusOr<ImageProcessConfig> ParseProcess(const base::Json& config) {
  ImageProcessConfig process;
  if (config.is_null()) {
    return process;
  }
  if (!config.is_object()) {
    return absl::InvalidArgumentError("config is not an object");
  }
  ASSIGN_OR_RETURN(process.entrypoint, StringOrList(config, "Entrypoint"));
  ASSIGN_OR_RETURN(process.cmd, StringOrList(config, "Cmd"));
  ASSIGN_OR_RETURN(process.env, base::JsonStrings(config, "Env"));
  ASSIGN_OR_RETURN(process.working_dir, base::JsonString(config, "WorkingDir"));
  ASSIGN_OR_RETURN(process.user, base::JsonString(config, "User"));
  ASSIGN_OR_RETURN(process.stop_signal, base::JsonString(config, "StopSignal"));
  ASSIGN_OR_RETURN(process.volumes, MemberNames(config, "Volumes"));
  ASSIGN_OR_RETURN(process.labels, base::JsonStringMap(config, "Labels"));
  return process;
}

absl::StatusOr<OciConfig> ParseDocument(const base::Json& document) {
  if (!document.is_object()) {
    return absl::InvalidArgumentError("not an object");
  }
  OciConfig config;
  ASSIGN_OR_RETURN(config.process, ParseProcess(base::JsonMember(document, "config")));
  const base::Json& rootfs = base::JsonMember(document, "rootfs");
  if (rootfs.is_null()) {
    return absl::InvalidArgumentError("it has no rootfs");
  }
  ASSIGN_OR_RETURN(const std::string type, base::JsonString(rootfs, "type", "layers"));
  if (type != "layers") {
    return absl::InvalidArgumentError(base::StrCat("rootfs.type is \"", type, "\""));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> diff_ids, base::JsonStrings(rootfs, "diff_ids"));
  for (const std::string& diff_id : diff_ids) {
    const std::string hex = IsDigest(diff_id) ? ImageIdOf(diff_id) : "";
    if (hex.empty()) {
      return absl::InvalidArgumentError(base::StrCat("diff ID \"", diff_id, "\" is no SHA-256"));
    }
    config.diff_ids.push_back(hex);
  }
  return config;
}

}  // namespace

absl::StatusOr<OciConfig> ParseOciConfig(std::string_view json) {
  ASSIGN_OR_RETURN(const base::Json document, base::ParseJson(json));
  absl::StatusOr<OciConfig> config = ParseDocument(document);
  if (!config.ok()) {
    return base::Annotate(config.status(), "image config");
  }
  return config;
}

}  // namespace imageservice
