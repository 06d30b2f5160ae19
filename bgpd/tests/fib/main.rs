//! The kernel routes' driver against the running kernel, in namespaces that each test makes. Needs root.

#[cfg(test)]
mod events;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod ways;
#[cfg(test)]
mod world;
