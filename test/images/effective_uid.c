// Prints its effective user; installed setuid root, it tells whether privileges can be gained.
#include <stdio.h>
#include <unistd.h>

int main(void) {
  printf("Effective uid: %d\n", (int)geteuid());
  return 0;
}
