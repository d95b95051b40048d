"""Slides opened in a real window, by real drops."""

from __future__ import annotations
import time, os
import numpy as np

def test_replace(viewer, drop, messages, shared_data, qtbot):
    from napari_dala.plugin import settings
    from napari_dala.slide.pyramid import pyramid
    settings.prefer_own_reader(None)
    drop(viewer, shared_data / "slides" / "CMU-1-Small-Region.svs")
    layer, = viewer.layers
    qtbot.wait(1500)
    viewer.scene.camera.center = (0, 2800*.499, 2100*.499); viewer.scene.camera.zoom = 8
    qtbot.wait(500)
    print(layer.data_level, layer.corner_pixels)
    layer.data = pyramid(layer.metadata["dala_slide"])
    print(layer.data_level, layer.corner_pixels, layer._slice.image.view.shape)
    qtbot.wait(500)
    print(layer.data_level, layer.corner_pixels, layer._slice.image.view.shape, layer.thumbnail.mean())

def test_big(viewer, qtbot):
    t=time.time()
    layer, = viewer.open("/tmp/m64.tiff", plugin="napari-dala")
    print("open", time.time()-t, layer.data.shapes)
    qtbot.wait(1000)
    def frame():
        t=time.time(); viewer.screenshot(canvas_only=True, flash=False); return time.time()-t
    print("size", viewer.window._qt_viewer.canvas.size, [round(frame(),3) for _ in range(3)])
    ex=layer.extent.world
    for zoom in (None, .3, .6, 1, 2, 4):
        if zoom: viewer.scene.camera.zoom = zoom
        times=[]
        for i in range(8):
            viewer.scene.camera.center=(0, ex[1,0]/2+i*30/viewer.scene.camera.zoom*3, ex[1,1]/2+i*30/viewer.scene.camera.zoom*3)
            times.append(round(frame(),3))
        print(round(viewer.scene.camera.zoom,2), layer.data_level, layer._slice.image.view.shape, times)
