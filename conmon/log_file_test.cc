#include "conmon/log_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"

namespace conmon {
namespace {

using ::testing::ElementsAre;
using ::testing::MatchesRegex;

class LogFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/crisp-log-XXXXXX";
    const int fd = mkstemp(pattern);
    ASSERT_GE(fd, 0);
    close(fd);
    path_ = pattern;
    ASSERT_EQ(log_.Open(path_.c_str()), 0);
  }
  void TearDown() override {
    log_.Open("");
    unlink(path_.c_str());
  }

  // As a read from the container would bring it.
  void Feed(std::string text) {
    while (!text.empty()) {
      const size_t length = std::min(lines_.room_size(), text.size());
      std::memcpy(lines_.room(), text.data(), length);
      lines_.Added(length, &log_);
      text.erase(0, length);
    }
  }
  std::string Content() const {
    std::ifstream file(path_);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  // The records without their times.
  std::vector<std::string> Records() const {
    std::istringstream text(Content());
    std::vector<std::string> records;
    for (std::string line; std::getline(text, line);) {
      records.push_back(line.substr(std::min(line.size(), line.find(' ') + 1)));
    }
    return records;
  }

  std::string path_;
  iovec vectors_[LogFile::kMaxVectors];
  char data_[LineBuffer::kSize];
  LogFile log_{vectors_};
  LineBuffer lines_{"stdout", data_};
};

TEST_F(LogFileTest, RecordHasTimeStreamTagAndText) {
  Feed("hello  world\n");
  EXPECT_THAT(Content(),
              MatchesRegex("20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]"
                           "\\.[0-9]{9}Z stdout F hello  world\n"));
}

TEST_F(LogFileTest, UnfinishedLineWaitsForItsEnd) {
  Feed("ab");
  EXPECT_NE(lines_.flush_time(), 0);
  EXPECT_EQ(Content(), "");
  Feed("c\nd");
  EXPECT_THAT(Records(), ElementsAre("stdout F abc"));
  lines_.Flush(&log_);
  EXPECT_EQ(lines_.flush_time(), 0);
  EXPECT_THAT(Records(), ElementsAre("stdout F abc", "stdout P d"));
}

TEST_F(LogFileTest, LineOfExactlyTheLimitIsWhole) {
  const std::string line(kMaxLine, 'x');
  Feed(line + "\n");
  EXPECT_THAT(Records(), ElementsAre("stdout F " + line));
}

TEST_F(LogFileTest, OneByteMoreIsSplit) {
  const std::string line(kMaxLine, 'x');
  Feed(line + "y\n");
  EXPECT_THAT(Records(), ElementsAre("stdout P " + line, "stdout F y"));
}

TEST_F(LogFileTest, ManyLinesInOneReadAreAllThere) {
  std::string text;
  std::vector<std::string> expected;
  for (int i = 0; i < 1000; ++i) {
    text += std::to_string(i) + "\n";
    expected.push_back("stdout F " + std::to_string(i));
  }
  Feed(text);
  EXPECT_EQ(Records(), expected);
}

TEST_F(LogFileTest, FailedOpenKeepsTheOldFile) {
  EXPECT_EQ(log_.Open("/nonexistent/log"), ENOENT);
  Feed("kept\n");
  EXPECT_THAT(Records(), ElementsAre("stdout F kept"));
}

TEST_F(LogFileTest, EmptyPathDiscards) {
  ASSERT_EQ(log_.Open(""), 0);
  Feed("gone\n");
  EXPECT_EQ(Content(), "");
  EXPECT_EQ(log_.dropped(), 0u);
}

// A limit of the file's size is cut off at any byte, as a full disk is.
class CutLogFileTest : public LogFileTest, public ::testing::WithParamInterface<rlim_t> {
 protected:
  void SetUp() override {
    LogFileTest::SetUp();
    signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before_), 0);
  }
  void TearDown() override {
    setrlimit(RLIMIT_FSIZE, &before_);
    LogFileTest::TearDown();
  }
  rlimit before_ = {};
};
INSTANTIATE_TEST_SUITE_P(Sizes, CutLogFileTest, ::testing::Range<rlim_t>(1, 140, 3));

TEST_P(CutLogFileTest, OnlyWholeRecordsStayAndTheRestIsCounted) {
  rlimit limit = {GetParam(), before_.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  Feed("one\ntwo\nthree\n");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before_), 0);
  const std::vector<std::string> all = {"stdout F one", "stdout F two", "stdout F three"};
  const std::vector<std::string> left = Records();
  ASSERT_LE(left.size(), all.size());
  EXPECT_EQ(left,
            std::vector<std::string>(all.begin(), all.begin() + static_cast<int>(left.size())));
  EXPECT_EQ(log_.dropped(), all.size() - left.size());
  EXPECT_EQ(log_.error() != 0, left.size() != all.size());
  const std::string content = Content();
  EXPECT_TRUE(content.empty() || content.back() == '\n');
  Feed("four\n");
  EXPECT_EQ(Records().back(), "stdout F four");
  EXPECT_EQ(log_.error(), 0);
}

}  // namespace
}  // namespace conmon
