/* The yardstick with as many events a turn as doorkeeper takes. */
#define EVENTS 64
#include "epoll.c"
