#include "runtimeservice/devices/cdi_registry.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/devices/cdi_edits.h"

namespace runtimeservice {
namespace {

constexpr size_t kMaxFileBytes = 4 << 20;
constexpr std::string_view kAnnotationPrefix = "cdi.k8s.io/";

absl::StatusOr<CdiSpec> ReadSpec(const base::FolderFile& file) {
  ASSIGN_OR_RETURN(const std::string text, base::ReadFile(file.path, kMaxFileBytes));
  return ParseCdiSpec(text, file.name.ends_with(".json") ? CdiFormat::kJson : CdiFormat::kYaml);
}

}  // namespace

absl::StatusOr<std::vector<CdiRequest>> CdiRequests(const cri::ContainerConfig& config) {
  std::vector<CdiRequest> requests;
  for (int i = 0; i < config.cdi_devices_size(); ++i) {
    requests.push_back({config.cdi_devices(i).name(), base::StrCat("CDI_devices[", i, "].name")});
  }
  // A protobuf map has no order of its own.
  std::map<std::string, std::string> annotations;
  for (const auto& [key, value] : config.annotations()) {
    if (key.rfind(kAnnotationPrefix, 0) == 0) {
      annotations[key] = value;
    }
  }
  for (const auto& [key, value] : annotations) {
    const std::vector<std::string> names = absl::StrSplit(value, ',');
    for (const std::string& name : names) {
      requests.push_back({name, base::StrCat("annotations[\"", key, "\"]")});
    }
  }
  std::set<std::string> seen;
  std::vector<CdiRequest> result;
  for (CdiRequest& request : requests) {
    RETURN_IF_ERROR(base::Annotate(CheckCdiDeviceName(request.name), request.field));
    if (seen.insert(request.name).second) {
      result.push_back(std::move(request));
    }
  }
  return result;
}

CdiRegistry::CdiRegistry(std::vector<std::string> folders)
    : catalog_(std::move(folders), {".json", ".yaml"}, &CdiRegistry::Load) {}

CdiRegistry::Catalog CdiRegistry::Load(const base::FolderFiles& files,
                                       base::FolderProblems* problems) {
  Catalog catalog;
  for (const base::FolderFile& file : files.files) {
    absl::StatusOr<CdiSpec> read = ReadSpec(file);
    if (!read.ok()) {
      (*problems)[file.path] = std::string(read.status().message());
      continue;
    }
    const auto spec = std::make_shared<const CdiSpec>(*std::move(read));
    for (size_t i = 0; i < spec->devices.size(); ++i) {
      const std::string name = base::StrCat(spec->kind, "=", spec->devices[i].name);
      const auto [entry, is_new] = catalog.try_emplace(name);
      if (is_new || entry->second.folder < file.folder) {
        entry->second = {spec, i, file.folder, file.path, ""};
      } else {
        entry->second.conflict = file.path;
        (*problems)[file.path] =
            base::StrCat("device ", name, ": ", entry->second.path, " has it too");
      }
    }
  }
  return catalog;
}

absl::StatusOr<const CdiRegistry::Entry*> CdiRegistry::Find(const Catalog& catalog,
                                                            const CdiRequest& request) const {
  const auto found = catalog.find(request.name);
  if (found == catalog.end()) {
    return absl::InvalidArgumentError(base::StrCat(request.field, ": no CDI device ", request.name,
                                                   " in ",
                                                   absl::StrJoin(catalog_.folders(), ", ")));
  }
  if (!found->second.conflict.empty()) {
    return absl::InvalidArgumentError(base::StrCat(request.field, ": CDI device ", request.name,
                                                   " is both in ", found->second.path, " and in ",
                                                   found->second.conflict));
  }
  return &found->second;
}

absl::StatusOr<CdiEdits> CdiRegistry::Resolve(const cri::ContainerConfig& config,
                                              const HandlerTraits& handler) {
  CdiEdits edits;
  ASSIGN_OR_RETURN(const std::vector<CdiRequest> requests, CdiRequests(config));
  if (requests.empty()) {
    return edits;
  }
  const std::shared_ptr<const Catalog> catalog = catalog_.Get();
  std::set<const CdiSpec*> used;
  for (const CdiRequest& request : requests) {
    ASSIGN_OR_RETURN(const Entry* entry, Find(*catalog, request));
    CdiEdits own;
    if (used.insert(entry->spec.get()).second) {
      own.Append(entry->spec->edits);
    }
    own.Append(entry->spec->devices[entry->device].edits);
    const std::string where = base::StrCat(request.field, ": CDI device ", request.name);
    RETURN_IF_ERROR(base::Annotate(CheckCdiEdits(own, handler), where));
    RETURN_IF_ERROR(base::Annotate(CompleteDeviceNodes(&own), where));
    edits.Append(own);
  }
  return edits;
}

}  // namespace runtimeservice
