// What is marked on a large map (point_map.js), and what a reader chooses there.
export default function (component) {
  const { data, setTriggerValue } = component
  const mine = ((window.pointMaps ??= {})[data.map] ??= {})
  mine.marks = data
  mine.clicked = (what) => setTriggerValue("clicked", what)
  mine.drawn = (area) => setTriggerValue("drawn", area)
  mine.refresh?.()
}
