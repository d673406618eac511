//! The simulation held against the kernel: random scripts of calls at the waist run on both, and every
//! result must be the same.
//!
//! # What is not compared, and why
//! 1. The numbers of automatic ports. The kernel takes them at random (RFC 6056).
//! 2. How many bytes fit into a full connection, and after how many that are read it takes more. Both
//!    follow from sizes of kernel memory. What is compared: the writer is refused, the reader gets every
//!    byte, and then the writer gets one edge. While it is full, its events are not compared: the kernel
//!    probes, and enlarges buffers (tcp(7), tcp_wmem), when it likes.
//! 3. The order of events within one batch. epoll(7) promises none.
//! 4. When a delayed acknowledgement arrives: that of a FIN, or of what a full connection held until it
//!    was drained (40 ms to 200 ms, RFC 1122, section 4.2.3.2). Events are compared after it.
//! 5. Which of several clients in a full accept queue's line gets a freed place: their SYNs are due at
//!    the same time. The time moves only while at most one client waits.

mod differential;
mod script;
mod side;
