// The records as text. The lite runtime of protobuf has no text format, so this prints by hand.
#include <stdlib.h>

#include <map>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/time/time.h"
#include "base/files.h"
#include "base/record_store.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "daemon/status_command.h"
#include "proto/state.pb.h"

namespace crispd {
namespace {

namespace state = ::crisp::state;

// Builds "kind ID\n  name: value\n…", leaving empty values out.
class Text {
 public:
  explicit Text(std::string title) : text_(std::move(title) + "\n") {}

  Text& Line(std::string_view name, std::string_view value) {
    if (!value.empty()) text_ += base::StrCat("  ", name, ": ", value, "\n");
    return *this;
  }
  Text& Number(std::string_view name, uint64_t value) { return Line(name, base::StrCat(value)); }
  Text& Time(std::string_view name, int64_t nanoseconds) {
    return Line(name, absl::FormatTime(absl::FromUnixNanos(nanoseconds), absl::UTCTimeZone()));
  }
  template <typename List>
  Text& Lines(std::string_view name, const List& values) {
    for (const std::string& value : values) Line(name, value);
    return *this;
  }
  std::string Take() { return std::move(text_); }

 private:
  std::string text_;
};

// Every attached pod will be detached once; it is news only when that should have happened.
std::string_view NetworkText(const state::PodRecord& pod) {
  if (!pod.network_attached()) return "not attached";
  const bool ending =
      pod.state() == state::PodRecord::STOPPED || pod.state() == state::PodRecord::REMOVING;
  return ending ? "a detach is owed" : "attached";
}

template <typename Record>
absl::StatusOr<Record> Parse(const std::string& bytes) {
  Record record;
  if (!record.ParseFromString(bytes)) return absl::DataLossError("does not parse");
  return record;
}

absl::StatusOr<std::string> PodText(const std::string& name, const std::string& bytes) {
  ASSIGN_OR_RETURN(const state::PodRecord pod, Parse<state::PodRecord>(bytes));
  Text text(base::StrCat("pod ", name));
  text.Line("state", state::PodRecord::State_Name(pod.state()))
      .Line("name",
            base::StrCat(pod.config().metadata().namespace_(), "/", pod.config().metadata().name()))
      .Line("uid", pod.config().metadata().uid())
      .Number("attempt", pod.config().metadata().attempt())
      .Line("runtime handler", pod.runtime_handler())
      .Time("created", pod.created_at())
      .Line("boot", pod.boot_id())
      .Line("cgroup parent", pod.cgroup_parent())
      .Line("cgroup driver", absl::AsciiStrToLower(state::CgroupDriver_Name(pod.cgroup_driver())))
      .Line("network", NetworkText(pod))
      .Lines("address", pod.ips());
  for (const state::NamespacePin& pin : pod.pins()) {
    text.Line("namespace", base::StrCat(pin.type(), " ", pin.path(), " inode ", pin.inode()));
  }
  return text.Line("infra container", pod.infra_container_id()).Take();
}

absl::StatusOr<std::string> ContainerText(const std::string& name, const std::string& bytes) {
  ASSIGN_OR_RETURN(const state::ContainerRecord container, Parse<state::ContainerRecord>(bytes));
  std::vector<std::string> volumes;
  for (const state::ImageVolume& volume : container.image_volumes()) {
    volumes.push_back(base::StrCat("mount ", volume.mount(), ", image ", volume.image_id()));
  }
  return Text(base::StrCat("container ", name))
      // Not the container's state: a running one's record is "created".
      .Line("record", absl::AsciiStrToLower(state::ContainerRecord::State_Name(container.state())))
      .Line("name", container.config().metadata().name())
      .Number("attempt", container.config().metadata().attempt())
      .Line("pod", container.pod_id())
      .Time("created", container.created_at())
      .Line("boot", container.boot_id())
      .Line("image", container.image_id())
      .Line("image reference", container.image_ref())
      .Lines("layer", container.chain_ids())
      .Lines("volume", volumes)
      .Line("log", container.log_path())
      .Line("runtime", container.runtime_path())
      .Line("runtime root", container.runtime_root())
      .Line("cgroup", container.cgroup())
      .Line("infra", container.infra() ? "yes" : "")
      .Take();
}

absl::StatusOr<std::string> ImageText(const std::string& name, const std::string& bytes) {
  ASSIGN_OR_RETURN(const state::ImageRecord image, Parse<state::ImageRecord>(bytes));
  return Text(base::StrCat("image ", name))
      .Lines("tag", image.tags())
      .Lines("digest", image.digests())
      .Lines("layer", image.chain_ids())
      .Line("artifact of type", image.artifact().type())
      .Number("bytes", image.bytes())
      .Time("pulled", image.pulled_at())
      .Line("not yet durable, boot", image.boot_id())
      .Take();
}

absl::StatusOr<std::string> LayerText(const std::string& name, const std::string& bytes) {
  ASSIGN_OR_RETURN(const state::LayerRecord layer, Parse<state::LayerRecord>(bytes));
  return Text(base::StrCat("layer ", name))
      .Line("parent", layer.parent())
      .Line("diff id", layer.diff_id())
      .Number("bytes", layer.bytes())
      .Number("inodes", layer.inodes())
      .Line("not yet durable, boot", layer.boot_id())
      .Take();
}

using Printer = absl::StatusOr<std::string> (*)(const std::string& name, const std::string& bytes);

// Copies the files of `from` into the new directory `to`.
absl::Status CopyFiles(const std::string& from, const std::string& to) {
  RETURN_IF_ERROR(base::MakeDirectories(to, 0700));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, base::ListDirectory(from));
  for (const std::string& name : names) {
    const absl::StatusOr<std::string> bytes = base::ReadFile(base::StrCat(from, "/", name));
    // Temporary files and records come and go under a running daemon; `corrupt` is a directory.
    if (bytes.ok()) {
      RETURN_IF_ERROR(base::ReplaceFile(base::StrCat(to, "/", name), *bytes, 0600,
                                        base::Durability::kVolatile));
    }
  }
  return absl::OkStatus();
}

// Opening a store clears temporary files and moves damaged records away, which is for the daemon to
// do: so a copy is opened.
absl::StatusOr<std::string> KindText(const std::string& directory, const std::string& scratch,
                                     Printer print) {
  if (!base::Exists(directory)) return "";
  RETURN_IF_ERROR(CopyFiles(directory, scratch));
  ASSIGN_OR_RETURN(const base::RecordStore store,
                   base::RecordStore::Open(scratch, base::Durability::kVolatile));
  ASSIGN_OR_RETURN(const base::RecordStore::Loaded loaded, store.Load());
  std::string text;
  for (const auto& [name, bytes] : loaded.records) {
    const absl::StatusOr<std::string> record = print(name, bytes);
    text += record.ok() ? *record
                        : base::StrCat(directory, "/", name, ": ", record.status().message(), "\n");
  }
  for (const std::string& name : loaded.damaged) {
    text += base::StrCat(directory, "/", name, ": damaged\n");
  }
  return text;
}

}  // namespace

absl::StatusOr<std::string> RecordsAsText(const std::string& root) {
  static constexpr std::pair<const char*, Printer> kKinds[] = {{"pods", PodText},
                                                               {"containers", ContainerText},
                                                               {"images", ImageText},
                                                               {"layers", LayerText}};
  const std::string records = base::StrCat(root, "/records");
  const std::string none = base::StrCat("no records in ", root, "\n");
  if (!base::Exists(records)) return none;
  char scratch[] = "/tmp/crisp-records-XXXXXX";
  if (mkdtemp(scratch) == nullptr) {
    return base::ErrnoStatus(errno, scratch);
  }
  const absl::Cleanup remove = [&scratch] { base::RemoveTree(scratch).IgnoreError(); };
  std::string text;
  for (const auto& [kind, print] : kKinds) {
    ASSIGN_OR_RETURN(const std::string part, KindText(base::StrCat(records, "/", kind),
                                                      base::StrCat(scratch, "/", kind), print));
    text += part;
  }
  return text.empty() ? none : text;
}

}  // namespace crispd
