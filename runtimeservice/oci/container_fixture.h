// For tests: real bundles, run by a real OCI runtime under a real monitor.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/launcher.h"
#include "gtest/gtest.h"
#include "runtimeservice/oci/monitor.h"
#include "runtimeservice/oci/runtime.h"

namespace runtimeservice {

// What a test's container is like; `args` run in a root file system with /bin/busybox in it.
struct BundleOptions {
  std::vector<std::string> args;
  bool terminal = false;
  bool own_pid_namespace = true;
  int64_t memory_limit = 0;
};

// Waits until `condition` holds, for at most ten seconds; returns whether it does.
bool Eventually(const std::function<bool()>& condition);

// The directory of the programs under test: that of the test program itself.
std::string ProgramDirectory();

// A temporary directory with one container's bundle, state and log. Everything of it is gone at the
// end.
class ContainerFixture : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Skips nothing itself: the name of what the machine lacks, or empty.
  std::string Missing() const;
  // Uses this runtime ("crun" or "runc") from now on. Call first.
  void UseRuntime(const std::string& name);

  // Writes the bundle and returns a spec for it with a log.
  MonitorSpec Prepare(const BundleOptions& options);
  // `sh -c script` in a container with its own PID namespace.
  MonitorSpec PrepareScript(const std::string& script);
  // From a spec to a running, acknowledged container.
  void Run(const MonitorSpec& spec);
  // Waits until the monitor closes `connection()` and returns the exit record.
  ExitRecord WaitForExit();

  std::string ReadLog() const;
  // The texts of the log's records, each after its stream and tag: "stdout F text".
  std::vector<std::string> LogRecords() const;
  bool LogHas(const std::string& record) const;

  const std::string& directory() const { return directory_; }
  std::string state_dir() const { return directory_ + "/state"; }
  std::string log_path() const { return directory_ + "/log/0.log"; }
  const std::string& id() const { return id_; }
  const std::string& cgroup() const { return cgroup_; }
  const base::Launcher& launcher() const { return *launcher_; }
  Runtime& runtime() { return *runtime_; }
  MonitorConnection& connection() { return *connection_; }
  // A second connection.
  MonitorConnection Connect();

  // For every call that waits.
  static Context Patience() { return Context::Detached(absl::Seconds(30)); }

 private:
  std::string directory_;
  std::string id_;
  std::string cgroup_;
  std::string runtime_path_;
  std::unique_ptr<base::Launcher> launcher_;
  std::unique_ptr<Runtime> runtime_;
  std::optional<MonitorConnection> connection_;
};

}  // namespace runtimeservice
