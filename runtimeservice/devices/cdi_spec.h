// CDI specifications: files of device vendors that say what a container needs to use a device
// (Container Device Interface 0.3.0 to 1.1.0).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "runtimeservice/devices/oci_hook.h"

namespace runtimeservice {

// A device node; what is absent is the host's.
struct CdiDeviceNode {
  std::string path;       // In the container.
  std::string host_path;  // Empty: as in the container.
  std::string type;       // "b", "c", "u", "p"; empty: as on the host.
  uint32_t major = 0;     // 0: as on the host, unless the type is given and "p".
  uint32_t minor = 0;
  std::optional<uint32_t> file_mode;
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::string permissions;  // Of "r", "w", "m"; "none"; empty: all.
};

struct CdiMount {
  std::string host_path;
  std::string container_path;
  std::string type;  // Empty: a bind mount.
  std::vector<std::string> options;
};

struct CdiHook {
  std::string stage;
  OciHook hook;
};

// An interface that moves into the container's network namespace.
struct CdiNetDevice {
  std::string host_interface;
  std::string name;
};

struct CdiIntelRdt {
  std::string clos_id;
  std::string l3_cache_schema;
  std::string mem_bw_schema;
  std::vector<std::string> schemata;
  bool enable_monitoring = false;
};

// What is changed in a container's config.json.
struct CdiEdits {
  std::vector<std::string> env;  // "NAME=value".
  std::vector<CdiDeviceNode> device_nodes;
  std::vector<CdiNetDevice> net_devices;
  std::vector<CdiMount> mounts;
  std::vector<CdiHook> hooks;
  std::optional<CdiIntelRdt> intel_rdt;
  std::vector<uint32_t> additional_gids;

  bool empty() const;
  // Adds `other` behind these; its intel_rdt takes the place of an earlier one.
  void Append(const CdiEdits& other);
};

struct CdiDevice {
  std::string name;  // Without vendor and class.
  CdiEdits edits;
};

struct CdiSpec {
  std::string kind;  // "vendor/class".
  std::vector<CdiDevice> devices;
  CdiEdits edits;  // For each container that gets one of the devices.
};

enum class CdiFormat { kJson, kYaml };

// INVALID_ARGUMENT, naming the place ("devices[0].containerEdits.mounts[1]: …"), for what is not a
// specification, unknown members, and members that the declared version does not have yet.
absl::StatusOr<CdiSpec> ParseCdiSpec(std::string_view text, CdiFormat format);

// OK for a device's full name, "vendor/class=name". INVALID_ARGUMENT quotes it.
absl::Status CheckCdiDeviceName(std::string_view name);

}  // namespace runtimeservice
