/* The yardstick with 64 events a turn, as doorkeeper has by default. */
#define EVENTS 64
#include "epoll.c"
