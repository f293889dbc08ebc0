// What a monitor does with output: the CRI's log format, rotation, a full disk.
#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/strings.h"
#include "gmock/gmock.h"
#include "runtimeservice/oci/container_fixture.h"

namespace runtimeservice {
namespace {

using ::base::StrCat;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

class MonitorLogTest : public ContainerFixture {
 protected:
  // Lets a script that waits for the file /go continue.
  void Go() {
    ASSERT_TRUE(
        base::ReplaceFile(directory() + "/bundle/rootfs/go", "", 0600, base::Durability::kVolatile)
            .ok());
  }
  static constexpr char kWaitForGo[] = "while ! test -e /go; do sleep 0.02; done; ";
};

TEST_F(MonitorLogTest, LongLinesAreSplitInPieces) {
  ASSERT_NO_FATAL_FAILURE(
      Run(PrepareScript("head -c 40000 /dev/zero | busybox tr '\\0' x; echo; echo end")));
  WaitForExit();
  EXPECT_THAT(LogRecords(),
              ElementsAre(StrCat("stdout P ", std::string(16384, 'x')),
                          StrCat("stdout P ", std::string(16384, 'x')),
                          StrCat("stdout F ", std::string(40000 - 32768, 'x')), "stdout F end"));
}

TEST_F(MonitorLogTest, PromptWithoutNewlineAppearsWhileTheProgramRuns) {
  ASSERT_NO_FATAL_FAILURE(
      Run(PrepareScript(StrCat("printf 'login: '; ", kWaitForGo, "echo root"))));
  ASSERT_TRUE(Eventually([&] { return LogHas("stdout P login: "); }));
  Go();
  WaitForExit();
  EXPECT_THAT(LogRecords(), ElementsAre("stdout P login: ", "stdout F root"));
}

TEST_F(MonitorLogTest, LineWrittenInQuickPiecesIsOneRecord) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("printf a; sleep 0.03; printf b; sleep 0.03; echo c")));
  WaitForExit();
  EXPECT_THAT(LogRecords(), ElementsAre("stdout F abc"));
}

TEST_F(MonitorLogTest, LastOutputWithoutNewlineIsAPiece) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("echo one; printf two")));
  WaitForExit();
  EXPECT_THAT(LogRecords(), ElementsAre("stdout F one", "stdout P two"));
}

TEST_F(MonitorLogTest, EmptyLinesAndStrangeBytesAreKept) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("printf '\\n\\001\\377 x\\n\\n'")));
  WaitForExit();
  EXPECT_THAT(LogRecords(), ElementsAre("stdout F ", "stdout F \001\377 x", "stdout F "));
}

TEST_F(MonitorLogTest, NothingIsLostAndTimesNeverGoBack) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("seq 1 100000; seq 1 20000 >&2")));
  WaitForExit();
  std::string last_time;
  int64_t next_out = 1;
  int64_t next_err = 1;
  for (const std::string& line :
       std::vector<std::string>(absl::StrSplit(ReadLog(), '\n', absl::SkipEmpty()))) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(' ', 3));
    ASSERT_EQ(parts.size(), 4u);
    ASSERT_LE(last_time, parts[0]);
    last_time = parts[0];
    ASSERT_EQ(parts[3], std::to_string(parts[1] == "stdout" ? next_out++ : next_err++));
  }
  EXPECT_EQ(next_out, 100001);
  EXPECT_EQ(next_err, 20001);
}

TEST_F(MonitorLogTest, FileHasTheModeOfALogAndIsAppendedTo) {
  ASSERT_TRUE(base::ReplaceFile(log_path(), "before\n", 0600, base::Durability::kVolatile).ok());
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("echo after")));
  WaitForExit();
  EXPECT_THAT(ReadLog(), MatchesRegex("before\n.* stdout F after\n"));
}

TEST_F(MonitorLogTest, NewFileHasMode0640) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("echo x")));
  WaitForExit();
  struct stat info = {};
  ASSERT_EQ(stat(log_path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
}

TEST_F(MonitorLogTest, WithoutALogOutputIsDiscarded) {
  MonitorSpec spec = PrepareScript("seq 1 100000; exit 6");
  spec.log_path = "";
  ASSERT_NO_FATAL_FAILURE(Run(spec));
  EXPECT_EQ(WaitForExit().code, 6);
  EXPECT_FALSE(base::Exists(log_path()));
}

TEST_F(MonitorLogTest, LogPathMayBeAsLongAsAPathCanBe) {
  std::string folder = directory() + "/log";
  while (folder.size() + 205 < 4080) {
    folder += "/" + std::string(200, 'd');
    ASSERT_TRUE(base::MakeDirectories(folder).ok());
  }
  MonitorSpec spec = PrepareScript(StrCat("echo long; ", kWaitForGo, "echo longer"));
  spec.log_path = folder + "/" + std::string(4095 - folder.size() - 1, 'f');
  ASSERT_EQ(spec.log_path.size(), 4095u);
  ASSERT_NO_FATAL_FAILURE(Run(spec));
  ASSERT_TRUE(Eventually([&] { return base::ReadFile(spec.log_path).value_or("").size() > 30; }));
  ASSERT_TRUE(base::RemoveFile(spec.log_path).ok());
  const absl::Status status = connection().ReopenLog(Patience(), spec.log_path);
  EXPECT_TRUE(status.ok()) << status;
  Go();
  WaitForExit();
  EXPECT_THAT(base::ReadFile(spec.log_path).value_or(""), MatchesRegex(".*Z stdout F longer\n"));
}

TEST_F(MonitorLogTest, ReopenIsDoneWhenItIsAnswered) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript(StrCat("echo one; ", kWaitForGo, "echo two"))));
  ASSERT_TRUE(Eventually([&] { return LogHas("stdout F one"); }));
  const std::string rotated = log_path() + ".20260102-030405";
  std::filesystem::rename(log_path(), rotated);
  ASSERT_TRUE(connection().ReopenLog(Patience(), log_path()).ok());
  EXPECT_TRUE(base::Exists(log_path()));
  // No descriptor of the monitor is left on the old file.
  for (const auto& entry : std::filesystem::directory_iterator(
           StrCat("/proc/", connection().state().monitor_pid, "/fd"))) {
    EXPECT_NE(std::filesystem::read_symlink(entry.path()).string(), rotated);
  }
  Go();
  WaitForExit();
  EXPECT_THAT(LogRecords(), ElementsAre("stdout F two"));
  EXPECT_THAT(*base::ReadFile(rotated), MatchesRegex(".*Z stdout F one\n"));
}

TEST_F(MonitorLogTest, FailedReopenKeepsTheOldFile) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript(StrCat(kWaitForGo, "echo kept"))));
  const absl::Status status =
      connection().ReopenLog(Patience(), directory() + "/no-such-folder/0.log");
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_FALSE(connection().ReopenLog(Patience(), "relative").ok());
  Go();
  EXPECT_EQ(WaitForExit().code, 0);
  EXPECT_TRUE(LogHas("stdout F kept"));
}

class FullDiskTest : public MonitorLogTest {
 protected:
  void SetUp() override {
    MonitorLogTest::SetUp();
    if (!IsSkipped()) {
      ASSERT_EQ(mount("tmpfs", Folder().c_str(), "tmpfs", 0, "size=64k"), 0);
    }
  }
  void TearDown() override {
    umount2(Folder().c_str(), MNT_DETACH);
    MonitorLogTest::TearDown();
  }
  std::string Folder() const { return directory() + "/log"; }
};

TEST_F(FullDiskTest, DropsWholeLinesAndTheContainerGoesOn) {
  ASSERT_NO_FATAL_FAILURE(
      Run(PrepareScript(StrCat("seq 1 50000; ", kWaitForGo, "echo again; exit 8"))));
  ASSERT_TRUE(Eventually([&] {
    return connection().RefreshState(Patience()).ok() &&
           connection().state().dropped_lines + static_cast<int64_t>(LogRecords().size()) == 50000;
  }));
  EXPECT_GT(connection().state().dropped_lines, 40000);
  EXPECT_EQ(connection().state().log_error, ENOSPC);
  const std::string full = ReadLog();
  ASSERT_FALSE(full.empty());
  EXPECT_EQ(full.back(), '\n');
  int64_t next = 1;
  for (const std::string& record : LogRecords()) {
    ASSERT_EQ(record, StrCat("stdout F ", next++));
  }
  // Room again: the log goes on with whole lines.
  ASSERT_EQ(truncate(log_path().c_str(), 0), 0);
  Go();
  const ExitRecord exit = WaitForExit();
  EXPECT_EQ(exit.code, 8);
  EXPECT_EQ(exit.dropped_lines, 50000 - (next - 1));
  EXPECT_THAT(LogRecords(), ElementsAre("stdout F again"));
}

}  // namespace
}  // namespace runtimeservice
