// CDI specifications as JSON and as YAML; what is one can be applied to a container.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtimeservice/devices/cdi_edits.h"
#include "runtimeservice/devices/cdi_spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using runtimeservice::CdiFormat;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const CdiFormat format : {CdiFormat::kJson, CdiFormat::kYaml}) {
    const auto spec = runtimeservice::ParseCdiSpec(text, format);
    if (!spec.ok()) {
      continue;
    }
    base::OrderedJson config = base::OrderedJson::parse(
        R"({"process": {"user": {"uid": 7, "gid": 7, "additionalGids": []}, "env": ["A=b"]},
            "mounts": [{"destination": "/proc"}], "linux": {"namespaces": [{"type": "user"}]}})");
    runtimeservice::CdiEdits edits = spec->edits;
    for (const runtimeservice::CdiDevice& device : spec->devices) {
      edits.Append(device.edits);
    }
    runtimeservice::ApplyCdiEdits(edits, &config);
    if (spec->devices.empty() || base::DumpJson(config).empty()) {
      std::abort();
    }
  }
  return 0;
}
