// What a daemon without pods should not have left on the host.
#include <dirent.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

constexpr size_t kSessionName = 16;  // Of an exec's folder, in hexadecimal digits.

void AddEntries(const std::string& what, const std::string& directory,
                std::vector<std::string>* found) {
  const auto names = base::ListDirectory(directory);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    found->push_back(base::StrCat(what, " ", directory, "/", name));
  }
}

// Mount points below `top`, without those that test/environment made.
void AddMounts(const std::string& top, const std::string& netns, std::vector<std::string>* found) {
  const std::string table = base::ReadFile("/proc/self/mountinfo").value_or("");
  for (const auto line : absl::StrSplit(table, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    if (fields.size() > 4 && absl::StartsWith(fields[4], base::StrCat(top, "/")) &&
        fields[4] != netns) {
      found->push_back(base::StrCat("mount ", fields[4]));
    }
  }
}

void AddProcesses(const std::vector<pid_t>& pids, std::vector<std::string>* found) {
  for (const pid_t pid : pids) {
    const std::string line = base::ReadFile(base::StrCat("/proc/", pid, "/cmdline")).value_or("");
    found->push_back(base::StrCat("process ", pid, " ", line));
  }
}

// The addresses that host-local holds for the network `name`.
void AddAddresses(const std::string& directory, std::vector<std::string>* found) {
  const auto names = base::ListDirectory(directory);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    if (!absl::StartsWith(name, "last_reserved") && name != "lock") {
      found->push_back(base::StrCat("address ", name));
    }
  }
}

}  // namespace

std::vector<std::string> IntegrationTest::Leftovers() const {
  std::vector<std::string> found;
  const std::string run = environment().Get("RUN");
  const std::string root = environment().Get("ROOT");
  const std::string run_root = environment().Get("RUN_ROOT");
  const std::string cgroup = environment().Get("CGROUP");
  AddMounts(run, environment().Get("NETNS"), &found);
  AddMounts(environment().Get("VAR"), "", &found);
  AddEntries("pin", environment().Get("NETNS"), &found);
  for (const char* name : {"ns", "pods", "containers", "exec"}) {
    AddEntries("directory", base::StrCat(run_root, "/", name), &found);
  }
  for (const char* name : {"records/pods", "records/containers", "containers", "staging"}) {
    AddEntries("directory", base::StrCat(root, "/", name), &found);
  }
  for (const char* runtime : {"crun", "runc", "gvisor"}) {
    AddEntries("runtime state", base::StrCat(run_root, "/runtime/", runtime), &found);
  }
  // crisp-stream itself lives on for a while; what its sessions had is gone with them.
  const std::string streams = run_root + "/streams";
  for (const std::string& instance :
       base::ListDirectory(streams).value_or(std::vector<std::string>{})) {
    const std::string folder = base::StrCat(streams, "/", instance);
    const auto names = base::ListDirectory(folder);
    if (!names.ok()) continue;
    for (const std::string& name : *names) {
      if (name.size() == kSessionName) found.push_back(base::StrCat("session ", folder, "/", name));
    }
  }
  AddAddresses(base::StrCat(environment().Get("CNI"), "/ipam/", environment().name()), &found);
  for (const char* name : {"/pods", "/monitors", "/work"}) {
    AddProcesses(base::CgroupProcesses(cgroup + name), &found);
  }
  for (const std::string& directory : base::CgroupDirectories(cgroup + "/pods")) {
    const auto pods = base::ListDirectory(directory);
    if (!pods.ok()) continue;
    for (const std::string& pod : *pods) {
      // The pod's own cgroup is its caller's; what lies in it is the daemon's.
      const auto inside = base::ListDirectory(base::StrCat(directory, "/", pod));
      if (!inside.ok()) continue;
      for (const std::string& name : *inside) {
        if (absl::StartsWith(name, "crisp-")) {
          found.push_back(base::StrCat("cgroup ", directory, "/", pod, "/", name));
        }
      }
    }
  }
  return found;
}

}  // namespace test
