// Images on a file system that is too small for them.
#include "base/files.h"
#include "base/mounts.h"
#include "base/strings.h"
#include "test/integration/image_checks.h"

namespace test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class ImageDiskTest : public ImageStoreTest {
 protected:
  void Prepare() override {
    ASSERT_OK(base::MakeDirectories(environment().Get("ROOT"), 0711));
    // Room for busybox, not for an image of many layers beside it.
    ASSERT_OK(base::MountTmpfs(environment().Get("ROOT"), 4 << 20, 0711));
  }
};

TEST_F(ImageDiskTest, AFullDiskIsNamedAndCostsNothing) {
  ASSERT_OK_AND_ASSIGN(const std::string id, Pull(kBusybox));
  RememberLayers();
  for (int i = 0; i < 3; ++i) {
    const auto pulled = Pull("crisp-test/many");
    ASSERT_THAT(pulled, HasCode(absl::StatusCode::kResourceExhausted));
    EXPECT_THAT(std::string(pulled.status().message()),
                HasSubstr(base::StrCat("the file system of ", environment().Get("ROOT"))));
    EXPECT_THAT(StoreFaults(), IsEmpty());
  }
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Image> images, Images());
  ASSERT_EQ(images.size(), 1u);
  EXPECT_EQ(images[0].id(), id);
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  EXPECT_OK(RunContainer(pod, "c", "true"));
}

TEST_F(ImageDiskTest, AnImageCanBeRemovedFromAFullDisk) {
  ASSERT_OK_AND_ASSIGN(const std::string id, Pull(kBusybox));
  RememberLayers();
  const std::string filler = Root("filler");
  ASSERT_FALSE(
      base::ReplaceFile(filler, std::string(8 << 20, 'x'), 0600, base::Durability::kVolatile).ok());
  for (int i = 0; base::ReplaceFile(base::StrCat(filler, i), std::string(4096, 'x'), 0600,
                                    base::Durability::kVolatile)
                      .ok();
       ++i) {
  }
  EXPECT_THAT(Pull("crisp-test/layers"), HasCode(absl::StatusCode::kResourceExhausted));
  ASSERT_OK(CrashAndRestart());
  EXPECT_THAT(StoreFaults(), IsEmpty());
  ASSERT_OK(RemoveImage(id));
  EXPECT_THAT(Names("layers"), IsEmpty());
  EXPECT_OK(Pull(kBusybox));
}

}  // namespace
}  // namespace test
