#include "runtimeservice/streaming/resize_documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/strings.h"

namespace streaming {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Sizes : public CommandInput {
 public:
  Task<> Stdin(std::string_view) override { co_return; }
  void StdinEnded() override {}
  void Resized(uint16_t width, uint16_t height) override {
    all.push_back(base::StrCat(width, "x", height));
  }
  std::vector<std::string> all;
};

TEST(ResizeDocumentsTest, DocumentsAreFoundInBytesInAnyCuts) {
  const std::string_view text =
      " {\"Width\":80,\"Height\":24}\n{\"Height\":65535,\"x\":\"}\\\"{\",\"Width\":1}\n\n";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    ResizeDocuments documents;
    Sizes sizes;
    EXPECT_TRUE(documents.Take(text.substr(0, cut), sizes).ok());
    EXPECT_TRUE(documents.Take(text.substr(cut), sizes).ok());
    EXPECT_THAT(sizes.all, ElementsAre("80x24", "1x65535"));
  }
}

TEST(ResizeDocumentsTest, ASizeWithAZeroIsLeftOut) {
  ResizeDocuments documents;
  Sizes sizes;
  EXPECT_TRUE(documents.Take("{\"Width\":0,\"Height\":24}{\"Width\":80}{}", sizes).ok());
  EXPECT_THAT(sizes.all, IsEmpty());
}

TEST(ResizeDocumentsTest, WhatIsNoSizeIsRefused) {
  for (const std::string_view text :
       {"[80,24]", "80", "{\"Width\":\"80\"}", "{\"Width\":65536,\"Height\":1}",
        "{\"Width\":-1,\"Height\":1}", "{Width:80}", "{\"Width\":{}}"}) {
    ResizeDocuments documents;
    Sizes sizes;
    EXPECT_TRUE(absl::IsInvalidArgument(documents.Take(text, sizes))) << text;
    EXPECT_THAT(sizes.all, IsEmpty());
  }
}

TEST(ResizeDocumentsTest, ADocumentIsBounded) {
  ResizeDocuments documents;
  Sizes sizes;
  const std::string text =
      base::StrCat("{\"", std::string(ResizeDocuments::kMaxDocumentBytes, 'x'));
  EXPECT_TRUE(absl::IsResourceExhausted(documents.Take(text, sizes)));
}

}  // namespace
}  // namespace streaming
