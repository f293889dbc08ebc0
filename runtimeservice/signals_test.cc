#include "runtimeservice/signals.h"

#include <signal.h>

#include "gtest/gtest.h"

namespace runtimeservice {
namespace {

TEST(SignalsTest, EveryCriValueHasANumberAndComesBack) {
  for (int value = 1; value <= 65; ++value) {
    const auto number = SignalNumber(static_cast<cri::Signal>(value));
    ASSERT_TRUE(number.ok()) << value;
    EXPECT_EQ(SignalNumber(CriSignal(*number)).value(), *number);
  }
  EXPECT_EQ(*SignalNumber(cri::SIGNAL_SIGTERM), SIGTERM);
  EXPECT_EQ(*SignalNumber(cri::SIGNAL_SIGRTMIN), 34);
  EXPECT_EQ(*SignalNumber(cri::SIGNAL_SIGRTMINPLUS15), 49);
  EXPECT_EQ(*SignalNumber(cri::SIGNAL_SIGRTMAXMINUS14), 50);
  EXPECT_EQ(*SignalNumber(cri::SIGNAL_SIGRTMAX), 64);
  EXPECT_FALSE(SignalNumber(static_cast<cri::Signal>(66)).ok());
  EXPECT_FALSE(SignalNumber(static_cast<cri::Signal>(-1)).ok());
}

TEST(SignalsTest, ImagesNameSignalsInManyWays) {
  EXPECT_EQ(*ParseSignal("SIGQUIT"), SIGQUIT);
  EXPECT_EQ(*ParseSignal("quit"), SIGQUIT);
  EXPECT_EQ(*ParseSignal("15"), SIGTERM);
  EXPECT_EQ(*ParseSignal("SIGRTMIN+3"), 37);
  EXPECT_EQ(*ParseSignal("RTMAX-1"), 63);
  EXPECT_EQ(*ParseSignal("RTMIN"), 34);
  for (const char* bad : {"", "0", "65", "SIGNOPE", "RTMIN+31", "RTMIN-1", "RTMAX+1", "-9"}) {
    EXPECT_FALSE(ParseSignal(bad).ok()) << bad;
  }
}

TEST(SignalsTest, TheRequestWinsOverTheImage) {
  EXPECT_EQ(*StopSignal(cri::SIGNAL_SIGUSR1, "SIGQUIT"), SIGUSR1);
  EXPECT_EQ(*StopSignal(cri::SIGNAL_RUNTIME_DEFAULT, "SIGQUIT"), SIGQUIT);
  EXPECT_EQ(*StopSignal(cri::SIGNAL_RUNTIME_DEFAULT, ""), SIGTERM);
  EXPECT_EQ(*StopSignal(cri::SIGNAL_RUNTIME_DEFAULT, "nonsense"), SIGTERM);
}

}  // namespace
}  // namespace runtimeservice
