// Starts of the daemon that find more than a crash: a reboot, damaged records.
#include <csignal>
#include <string>

#include "base/files.h"
#include "base/record_store.h"
#include "base/strings.h"
#include "proto/state.pb.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

class RecoveryTest : public IntegrationTest {
 protected:
  std::string Records(std::string_view kind) const {
    return base::StrCat(environment().Get("ROOT"), "/records/", kind);
  }

  // Makes the record `id` one of an earlier boot.
  template <typename Record>
  absl::Status AgeRecord(std::string_view kind, const std::string& id) const {
    ASSIGN_OR_RETURN(const base::RecordStore store,
                     base::RecordStore::Open(Records(kind), base::Durability::kVolatile));
    ASSIGN_OR_RETURN(const std::string bytes, store.Get(id));
    Record record;
    if (!record.ParseFromString(bytes)) {
      return absl::DataLossError("not a record");
    }
    record.set_boot_id("an earlier boot");
    return store.Put(id, record.SerializeAsString());
  }

  absl::Status Damage(std::string_view kind, const std::string& id) const {
    const std::string path = base::StrCat(Records(kind), "/", id);
    ASSIGN_OR_RETURN(std::string bytes, base::ReadFile(path));
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    return base::ReplaceFile(path, bytes, 0600, base::Durability::kVolatile);
  }
};

TEST_F(RecoveryTest, AfterARebootAllIsListedAsEndedAndTheAddressesAreFree) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string container, RunContainer(pod, "c", "exec sleep 4321"));
  ASSERT_OK(StopContainer(container, 0));  // The machine going down takes the process along.
  ASSERT_OK(daemon().Crash());
  ASSERT_OK(AgeRecord<crisp::state::PodRecord>("pods", pod));
  ASSERT_OK(AgeRecord<crisp::state::ContainerRecord>("containers", container));
  ASSERT_OK(daemon().Start());

  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus pod_status, PodStatus(pod));
  EXPECT_EQ(pod_status.state(), cri::SANDBOX_NOTREADY);
  EXPECT_NE(pod_status.network().ip(), "");
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(container));
  EXPECT_EQ(status.state(), cri::CONTAINER_EXITED);
  EXPECT_EQ(status.exit_code(), 255);
  EXPECT_EQ(status.reason(), "Unknown");
  EXPECT_GE(status.finished_at(), status.started_at());
  ASSERT_OK(StopPod(pod));
  ASSERT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
      << testing::PrintToString(Leftovers());
}

TEST_F(RecoveryTest, AContainerWhoseRecordIsDamagedIsEndedAndRemoved) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string kept, RunContainer(pod, "kept", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const std::string lost, RunContainer(pod, "lost", "exec sleep 4321"));
  const size_t before = Processes("pod").size();
  ASSERT_OK(daemon().Crash());
  ASSERT_OK(Damage("containers", lost));
  ASSERT_OK(daemon().Start());

  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  ASSERT_EQ(containers.size(), 1u);
  EXPECT_EQ(containers[0].id(), kept);
  EXPECT_EQ(containers[0].state(), cri::CONTAINER_RUNNING);
  EXPECT_EQ(Processes("pod").size(), before - 1);
  EXPECT_THAT(daemon().Log(), testing::HasSubstr(lost));
  ASSERT_OK(RemovePod(pod));
  // All but the record itself, kept for whoever wants to know.
  EXPECT_THAT(Leftovers(), testing::ElementsAre(testing::HasSubstr("containers/corrupt")));
}

TEST_F(RecoveryTest, AKilledMonitorEndsItsContainerAlone) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string hurt, RunContainer(pod, "hurt", "exec sleep 4321"));
  const std::string lock =
      base::StrCat(environment().Get("RUN_ROOT"), "/containers/", hurt, "/monitor.lock");
  ASSERT_OK_AND_ASSIGN(const std::string monitor, base::ReadFile(lock));
  ASSERT_OK_AND_ASSIGN(const std::string other, RunContainer(pod, "other", "exec sleep 4321"));
  ASSERT_EQ(kill(std::stoi(monitor), SIGKILL), 0);
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, WaitForExit(hurt));
  EXPECT_EQ(status.exit_code(), 255);
  EXPECT_EQ(status.reason(), "Unknown");
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus still, Status(other));
  EXPECT_EQ(still.state(), cri::CONTAINER_RUNNING);
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus again, Status(hurt));
  EXPECT_EQ(again.exit_code(), 255);
  EXPECT_EQ(again.finished_at(), status.finished_at());
  ASSERT_OK(RemovePod(pod));
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

}  // namespace
}  // namespace test
