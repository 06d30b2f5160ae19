//! The crate against the running kernel, in namespaces that each test makes. Needs root.

#[cfg(test)]
mod events;
#[cfg(test)]
mod links;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod routes;
