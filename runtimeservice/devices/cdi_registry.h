// The CDI devices of the node: folders of specifications, read when somebody asks for a device.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/folder_files.h"
#include "proto/cri.h"
#include "runtimeservice/devices/cdi_spec.h"
#include "runtimeservice/spec/spec.h"

namespace runtimeservice {

// A device that a request asks for.
struct CdiRequest {
  std::string name;   // "vendor/class=name".
  std::string field;  // Where it was asked for: "CDI_devices[0].name", "annotations[\"…\"]".
};

// The devices of the field CDI_devices, then those of the annotations cdi.k8s.io/…, each once.
// INVALID_ARGUMENT, naming the field, for what is not a device's full name. Pure.
absl::StatusOr<std::vector<CdiRequest>> CdiRequests(const cri::ContainerConfig& config);

// Looks at the folders again at each use and reads them again when something changed, so a change
// takes effect at once; nothing is read before the first use. Thread-safe.
class CdiRegistry {
 public:
  // Of devices with one name that of the later folder counts.
  explicit CdiRegistry(std::vector<std::string> folders);

  // What the devices of `config` change, in the order of the requests: each specification's own
  // edits come before those of its first device. Device nodes are complete. INVALID_ARGUMENT,
  // naming the field, for a device that is not there or that two files of one folder define;
  // FAILED_PRECONDITION for one that this host or `handler` cannot serve.
  absl::StatusOr<CdiEdits> Resolve(const cri::ContainerConfig& config,
                                   const HandlerTraits& handler);

 private:
  // A device and the file it is from.
  struct Entry {
    std::shared_ptr<const CdiSpec> spec;
    size_t device = 0;  // In spec->devices.
    size_t folder = 0;
    std::string path;
    std::string conflict;  // Another file of the folder that has it too; empty: none.
  };
  using Catalog = std::map<std::string, Entry>;  // By full name.
  static Catalog Load(const base::FolderFiles& files, base::FolderProblems* problems);
  absl::StatusOr<const Entry*> Find(const Catalog& catalog, const CdiRequest& request) const;

  base::FolderCache<Catalog> catalog_;
};

}  // namespace runtimeservice
