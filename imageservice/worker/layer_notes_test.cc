#include "imageservice/worker/layer_notes.h"

#include <gtest/gtest.h>

#include <string>

#include "base/strings.h"

namespace imageservice::worker {
namespace {

DeferredOperation Link(const std::string& path, const std::string& target) {
  return {.kind = DeferredOperation::Kind::kHardLink, .path = path, .target = target};
}

TEST(LayerNotesTest, ALayerMayLinkThousandsOfFilesOfLowerOnes) {
  LayerNotes notes;
  const std::string folder = "usr/lib/python3/dist-packages/some/package/with/a/long/name";
  for (int i = 0; i < 20'000; ++i) {
    const std::string target = base::StrCat(folder, "/lower/module-", i, ".py");
    ASSERT_TRUE(notes.Defer(Link(base::StrCat(folder, "/again/module-", i, ".py"), target)).ok());
  }
  for (int i = 0; i < 30'000; ++i) {
    ASSERT_TRUE(notes.AddImplicit(base::StrCat("srv/app/node_modules/module-", i, "/dist")).ok());
  }
  const auto operations = notes.Operations();
  ASSERT_TRUE(operations.ok()) << operations.status();
  EXPECT_EQ(operations->size(), 50'000u);
}

TEST(LayerNotesTest, WhatIsLeftToTheDaemonIsLimitedInNumber) {
  LayerNotes notes;
  for (size_t i = 0; i < kMaxDeferredOperations; ++i) {
    ASSERT_TRUE(notes.Defer(Link(base::StrCat(i), "x")).ok());
  }
  EXPECT_TRUE(notes.Operations().ok());
  ASSERT_TRUE(notes.AddImplicit("one/more").ok());
  const absl::Status status = notes.Operations().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find("100000"), absl::string_view::npos) << status;
}

}  // namespace
}  // namespace imageservice::worker
