#include "imageservice/image_names.h"

#include <algorithm>
#include <string>

#include "base/strings.h"

namespace imageservice {
namespace {

void AddDigests(const Reference& name, const worker::Resolved& resolved,
                crisp::state::ImageRecord* record) {
  for (const std::string& digest : {resolved.index_digest, resolved.manifest_digest}) {
    const std::string text = base::StrCat(name.repository(), "@", digest);
    if (!digest.empty() && std::ranges::find(record->digests(), text) == record->digests().end()) {
      record->add_digests(text);
    }
  }
}

}  // namespace

void NameImage(const PullPlan& plan, const worker::Resolved& resolved,
               crisp::state::ImageRecord* record) {
  if (!plan.archive.has_value()) {
    const Reference& name = plan.sources[static_cast<size_t>(resolved.endpoint)].name;
    if (name.digest().empty()) {
      record->add_tags(name.str());
    }
    AddDigests(name, resolved, record);
    return;
  }
  for (const Reference& name : plan.archive->names) {
    record->add_tags(name.str());
    if (plan.archive->has_manifest) {  // Else it is of our own making.
      AddDigests(name, resolved, record);
    }
  }
}

}  // namespace imageservice
